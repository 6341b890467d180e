{{/* "true" if the webhook is part of the release: what is set, else whether the controller is, whose pods serve it. */}}
{{- define "tessera.admission.webhook" -}}
{{- include "tessera.controller.or" (dict "root" . "set" .Values.admission.webhook.enabled) -}}
{{- end }}

{{/* Where the webhook is, in a ValidatingWebhookConfiguration. The CA is written by the controller. */}}
{{- define "tessera.admission.clientConfig" -}}
service:
  name: tessera-admission
  namespace: {{ .Release.Namespace }}
  path: /validate
  port: 443
{{- end }}

{{/* In CEL, whether a config, the variable "it", gives a container the node's API device for VFIO: the one thing that makes
a config privileged (api/config/src/nvidia/vfio.rs says why). */}}
{{- define "tessera.admission.isPrivileged" -}}
has(it.opaque) && it.opaque.driver in {{ include "tessera.driverNames" . }}
&& has(it.opaque.parameters.iommu) && type(it.opaque.parameters.iommu) == map
&& it.opaque.parameters.iommu.?enableAPIDevice.orValue(false) == true
{{- end }}

{{/* In CEL, whether an object's namespace may have such configs. */}}
{{- define "tessera.admission.mayBePrivileged" -}}
namespaceObject.metadata.?labels[?'{{ .Values.admission.privilegedConfigs.namespaceLabel }}'].orValue('') == 'true'
{{- end }}
