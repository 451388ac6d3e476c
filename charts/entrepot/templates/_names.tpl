{{- define "entrepot.labels" -}}
app.kubernetes.io/name: entrepot
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "entrepot.pullSecret" -}}
{{ .Values.pullSecret.existing | default (printf "%s-pull-secret" .Release.Name) }}
{{- end }}

{{- define "entrepot.claim" -}}
{{ .Values.persistence.existing | default (printf "%s-data" .Release.Name) }}
{{- end }}
