{{- define "entrepot.name" -}}
{{ .Values.fullnameOverride | default .Release.Name }}
{{- end }}

{{- define "entrepot.labels" -}}
app.kubernetes.io/name: entrepot
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "entrepot.image" -}}
{{- if .Values.image.digest -}}
{{ printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- define "entrepot.pullSecret" -}}
{{ .Values.pullSecret.existing | default (printf "%s-pull-secret" (include "entrepot.name" .)) }}
{{- end }}

{{- define "entrepot.claim" -}}
{{ .Values.persistence.existing | default (printf "%s-data" (include "entrepot.name" .)) }}
{{- end }}

{{- define "entrepot.config" -}}
{{ .Values.config.configMap | default (printf "%s-config" (include "entrepot.name" .)) }}
{{- end }}

{{- define "entrepot.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "entrepot.name" .) }}
{{- end }}

{{- define "entrepot.servicePort" -}}
{{- if .Values.tls.secret -}}
{{ .Values.service.port | default 443 }}
{{- else -}}
{{ .Values.service.port | default 80 }}
{{- end }}
{{- end }}

{{- define "entrepot.text" -}}
{{- /* Return a value as text. Helm reads every number of a values file as a float64, and Go prints large
numbers of this type in the form 1e+07. So whole numbers are printed without an exponent. */ -}}
{{- if kindIs "float64" . -}}
{{- if eq (floor .) . -}}
{{ printf "%.0f" . }}
{{- else -}}
{{ . }}
{{- end }}
{{- else -}}
{{ . }}
{{- end }}
{{- end }}
