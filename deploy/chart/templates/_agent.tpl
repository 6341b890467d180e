{{- define "tessera.labels" -}}
app.kubernetes.io/name: tessera
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- end }}

{{/* What tells the agent's pods from others: never to be changed, a DaemonSet's selector cannot be. */}}
{{- define "tessera.agent.selector" -}}
app.kubernetes.io/name: tessera
app.kubernetes.io/component: agent
{{- end }}

{{- define "tessera.agent.image" -}}
{{- with .Values.agent.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* "true" if a family is served. */}}
{{- define "tessera.serves" -}}
{{- if or (empty .root.Values.drivers.serve) (has .family .root.Values.drivers.serve) -}}true{{- end -}}
{{- end }}

{{/* "true" if the agent's container is privileged: what is set, else whether NVML has to be opened. */}}
{{- define "tessera.agent.privileged" -}}
{{- if kindIs "bool" .Values.agent.privileged -}}
{{- if .Values.agent.privileged -}}true{{- end -}}
{{- else -}}
{{- include "tessera.serves" (dict "root" . "family" "nvidia") -}}
{{- end -}}
{{- end }}

{{/* The hook's path on the node. Each version has its own: specs of running containers name the one that they were
written with, and containers start again with it, also after an upgrade or a rollback. */}}
{{- define "tessera.agent.hook" -}}
{{ .Values.agent.host.kubeletDir }}/plugins/tessera.dev/{{ .Chart.AppVersion }}/tessera-hook
{{- end }}

{{/* The names of the drivers that are served, as a list in CEL. */}}
{{- define "tessera.driverNames" -}}
{{- $names := list -}}
{{- range $family := list "nvidia" "tpu" -}}
{{- if include "tessera.serves" (dict "root" $ "family" $family) -}}
{{- $names = append $names (printf "'%s'" (get $.Values.drivers $family).name) -}}
{{- end -}}
{{- end -}}
[{{ join ", " $names }}]
{{- end }}

{{/* The ConfigMap with the device plugin's config files; nothing where there are none. */}}
{{- define "tessera.devicePlugin.configMap" -}}
{{- if .Values.devicePlugin.configMap -}}
{{ .Values.devicePlugin.configMap }}
{{- else if .Values.devicePlugin.configs -}}
tessera-device-plugin
{{- end -}}
{{- end }}

{{/* "true" if agents follow the NodeLayout of their node: what is set, else whether the controller is there, which writes them. */}}
{{- define "tessera.nodeLayouts" -}}
{{- include "tessera.controller.or" (dict "root" . "set" .Values.nodeLayouts) -}}
{{- end }}
