{{/* What tells the controller's pods from others: never to be changed, a Deployment's selector cannot be. */}}
{{- define "tessera.controller.selector" -}}
app.kubernetes.io/name: tessera
app.kubernetes.io/component: controller
{{- end }}

{{- define "tessera.controller.image" -}}
{{- with .Values.controller.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The drivers that are served, family=name, with commas. */}}
{{- define "tessera.controller.drivers" -}}
{{- $names := list -}}
{{- range $family := list "nvidia" "tpu" -}}
{{- if include "tessera.serves" (dict "root" $ "family" $family) -}}
{{- $names = append $names (printf "%s=%s" $family (get $.Values.drivers $family).name) -}}
{{- end -}}
{{- end -}}
{{ join "," $names }}
{{- end }}

{{/* "true" if what needs the controller is there: what is set, else whether the controller is. */}}
{{- define "tessera.controller.or" -}}
{{- if kindIs "bool" .set -}}
{{- if .set -}}true{{- end -}}
{{- else if .root.Values.controller.enabled -}}
true
{{- end -}}
{{- end }}
