{{/* The DeviceClasses, as documents: they are part of the release, and the controller keeps them so. */}}
{{- define "tessera.deviceClasses" -}}
# The DeviceClasses that claims name.
{{- $labels := include "tessera.labels" (dict "root" . "component" "classes") }}
{{- if include "tessera.serves" (dict "root" . "family" "nvidia") }}
{{- $driver := .Values.drivers.nvidia.name }}
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata:
  name: gpu.nvidia.com
  labels:
    {{- $labels | nindent 4 }}
spec:
  selectors:
    - cel:
        expression: device.driver == '{{ $driver }}' && device.attributes['{{ $driver }}'].type == 'gpu'
  {{- with and (eq .Values.api "dra") .Values.deviceClasses.extendedResources.gpu }}
  # A pod that asks for "{{ . }}: 1" gets a device of this class (Kubernetes 1.36 and later).
  extendedResourceName: {{ . }}
  {{- end }}
---
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata:
  name: mig.nvidia.com
  labels:
    {{- $labels | nindent 4 }}
spec:
  selectors:
    - cel:
        expression: device.driver == '{{ $driver }}' && device.attributes['{{ $driver }}'].type == 'mig'
---
# Whole GPUs for virtual machines, by VFIO. Published with --offer passthrough.
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata:
  name: vfio.gpu.nvidia.com
  labels:
    {{- $labels | nindent 4 }}
spec:
  selectors:
    - cel:
        expression: device.driver == '{{ $driver }}' && device.attributes['{{ $driver }}'].type == 'vfio'
---
# Several GPUs at once that lie together; tessera.dev/groupSize says how many. Published with --offer groups.
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata:
  name: group.gpu.nvidia.com
  labels:
    {{- $labels | nindent 4 }}
spec:
  selectors:
    - cel:
        expression: device.driver == '{{ $driver }}' && device.attributes['{{ $driver }}'].type == 'group'
---
{{- end }}
{{- if include "tessera.serves" (dict "root" . "family" "tpu") }}
{{- $driver := .Values.drivers.tpu.name }}
# One TPU chip.
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata:
  name: tpu.google.com
  labels:
    {{- $labels | nindent 4 }}
spec:
  selectors:
    - cel:
        expression: device.driver == '{{ $driver }}' && device.attributes['{{ $driver }}'].type == 'chip'
  {{- with and (eq .Values.api "dra") .Values.deviceClasses.extendedResources.tpu }}
  # A pod that asks for "{{ . }}: 4" gets devices of this class (Kubernetes 1.36 and later).
  extendedResourceName: {{ . }}
  {{- end }}
---
# Several chips at once that can be used together, up to the whole host. Published with --offer groups.
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata:
  name: group.tpu.google.com
  labels:
    {{- $labels | nindent 4 }}
spec:
  selectors:
    - cel:
        expression: device.driver == '{{ $driver }}' && device.attributes['{{ $driver }}'].type == 'group'
---
{{- end }}
# All accelerators of a fabric domain that spans nodes, for pods on all of them that share the claim. Offered where a
# PartitionPolicy says so (layout: {domain: {}}).
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata:
  name: domain.tessera.dev
  labels:
    {{- $labels | nindent 4 }}
spec:
  selectors:
    - cel:
        # Other drivers' devices do not say it.
        expression: >-
          'kind' in device.attributes['tessera.dev'] && device.attributes['tessera.dev'].kind == 'domain'
---
# One accelerator of any vendor, or a part of one. A claim says how much memory it must have:
#   device.capacity['tessera.dev'].memory.compareTo(quantity('16Gi')) >= 0
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata:
  name: accelerator.tessera.dev
  labels:
    {{- $labels | nindent 4 }}
spec:
  selectors:
    - cel:
        # Other drivers' devices say neither, and to ask them all the same would be an error, not a no.
        expression: >-
          'kind' in device.attributes['tessera.dev'] && device.attributes['tessera.dev'].kind in ['gpu', 'tpu', 'partition']
          && 'memory' in device.capacity['tessera.dev']
{{- end }}
