{{- /* The environment variables of the container. A variable in `env` overrides the chart's variable of the
same name, and one in `extraEnv` overrides both, so that no name appears twice. */ -}}
{{- define "entrepot.environment" -}}
{{- $all := dict "PULLSECRETPATH" (dict "value" "/secrets/.dockerconfigjson") -}}
{{- if not (eq .Values.storage.driver "inmemory") -}}
{{- with .Values.cleaner.maxsize -}}
{{- $_ := set $all "CLEANER_MAXSIZE" (dict "value" (include "entrepot.text" .)) -}}
{{- end -}}
{{- end -}}
{{- if not (eq (include "entrepot.text" .Values.cleaner.threshold) "") -}}
{{- $_ := set $all "CLEANER_THRESHOLD_PERCENTAGE" (dict "value" (include "entrepot.text" .Values.cleaner.threshold)) -}}
{{- end -}}
{{- with .Values.cleaner.ttl -}}
{{- $_ := set $all "CLEANER_TTL" (dict "value" (include "entrepot.text" .)) -}}
{{- end -}}
{{- if or .Values.config.configMap .Values.config.content -}}
{{- $_ := set $all "REGISTRY_CONFIGURATION_PATH" (dict "value" "/config/config.yml") -}}
{{- end -}}
{{- if eq .Values.storage.driver "inmemory" -}}
{{- $_ := set $all "REGISTRY_STORAGE_INMEMORY_ROOTDIRECTORY" (dict "value" "/var/lib/registry") -}}
{{- end -}}
{{- $prefix := printf "REGISTRY_STORAGE_%s_" (.Values.storage.driver | upper) -}}
{{- range $key, $value := .Values.storage.parameters -}}
{{- $_ := set $all (printf "%s%s" $prefix ($key | upper)) (dict "value" (include "entrepot.text" $value)) -}}
{{- end -}}
{{- range $key, $source := .Values.storage.parametersFrom -}}
{{- $entry := dict "name" $source.secret "key" $source.key -}}
{{- $_ := set $all (printf "%s%s" $prefix ($key | upper)) (dict "valueFrom" (dict "secretKeyRef" $entry)) -}}
{{- end -}}
{{- if .Values.tls.secret -}}
{{- $_ := set $all "REGISTRY_HTTP_TLS_CERTIFICATE" (dict "value" "/certs/tls.crt") -}}
{{- $_ := set $all "REGISTRY_HTTP_TLS_KEY" (dict "value" "/certs/tls.key") -}}
{{- end -}}
{{- if .Values.htpasswd.secret -}}
{{- $_ := set $all "REGISTRY_AUTH" (dict "value" "htpasswd") -}}
{{- $_ := set $all "REGISTRY_AUTH_HTPASSWD_REALM" (dict "value" .Values.htpasswd.realm) -}}
{{- $_ := set $all "REGISTRY_AUTH_HTPASSWD_PATH" (dict "value" "/auth/htpasswd") -}}
{{- end -}}
{{- if .Values.auth.token.realm -}}
{{- $_ := set $all "REGISTRY_AUTH_TOKEN_REALM" (dict "value" .Values.auth.token.realm) -}}
{{- $_ := set $all "REGISTRY_AUTH_TOKEN_SERVICE" (dict "value" .Values.auth.token.service) -}}
{{- $_ := set $all "REGISTRY_AUTH_TOKEN_ISSUER" (dict "value" .Values.auth.token.issuer) -}}
{{- with .Values.auth.token.rootcertbundle -}}
{{- $_ := set $all "REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE" (dict "value" (printf "/tokens/%s" .)) -}}
{{- end -}}
{{- with .Values.auth.token.jwks -}}
{{- $_ := set $all "REGISTRY_AUTH_TOKEN_JWKS" (dict "value" (printf "/tokens/%s" .)) -}}
{{- end -}}
{{- with .Values.auth.token.signingalgorithms -}}
{{- $_ := set $all "REGISTRY_AUTH_TOKEN_SIGNINGALGORITHMS" (dict "value" (toJson .)) -}}
{{- end -}}
{{- if .Values.auth.token.autoredirect -}}
{{- $_ := set $all "REGISTRY_AUTH_TOKEN_AUTOREDIRECT" (dict "value" "true") -}}
{{- end -}}
{{- end -}}
{{- if .Values.notifications.includereferences -}}
{{- $_ := set $all "REGISTRY_NOTIFICATIONS_EVENTS_INCLUDEREFERENCES" (dict "value" "true") -}}
{{- end -}}
{{- range $index, $endpoint := .Values.notifications.endpoints -}}
{{- $start := printf "REGISTRY_NOTIFICATIONS_ENDPOINTS_%d_" $index -}}
{{- $_ := set $all (printf "%sNAME" $start) (dict "value" $endpoint.name) -}}
{{- with get $endpoint "url" -}}
{{- $_ := set $all (printf "%sURL" $start) (dict "value" .) -}}
{{- end -}}
{{- with get $endpoint "urlFrom" -}}
{{- $_ := set $all (printf "%sURL" $start) (dict "valueFrom" (dict "secretKeyRef" (dict "name" .secret "key" .key))) -}}
{{- end -}}
{{- with get $endpoint "headersFrom" -}}
{{- $_ := set $all (printf "%sHEADERS" $start) (dict "valueFrom" (dict "secretKeyRef" (dict "name" .secret "key" .key))) -}}
{{- end -}}
{{- with get $endpoint "options" -}}
{{- range $name, $value := . -}}
{{- $_ := set $all (printf "%s%s" $start ($name | upper)) (dict "value" (toJson $value)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := .Values.env -}}
{{- $_ := set $all $name (dict "value" (include "entrepot.text" $value)) -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- $_ := unset $all .name -}}
{{- end -}}
{{- range $name, $source := $all }}
- name: {{ $name }}
  {{- toYaml $source | nindent 2 }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
