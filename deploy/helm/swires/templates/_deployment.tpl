{{/* The spec of a Deployment of servers. */}}
{{- define "swires.deployment" -}}
{{- $model := .model -}}
{{- if not $model.keda.enabled }}
replicas: {{ ternary .root.Values.frontSpec.replicaCount $model.replicaCount (eq .part "front") }}
{{- end }}
revisionHistoryLimit: 5
minReadySeconds: 10 # until balancers have heard of it, and the next one goes
progressDeadlineSeconds: {{ add $model.startupSeconds 600 }} # with time to fetch image and model
strategy:
  {{- if eq (default "" $model.strategy.type) "Recreate" }}
  type: Recreate
  {{- else }}
  {{- toYaml $model.strategy | nindent 2 }}
  {{- end }}
selector:
  matchLabels:
    {{- include "swires.selector" . | nindent 4 }}
template:
  {{- include "swires.podTemplate" . | nindent 2 }}
{{- end -}}
