{{/* The models, as JSON: what each says over what servingEngineSpec says, and what follows from it. */}}
{{- define "swires.models" -}}
{{- $models := list -}}
{{- $defaults := omit .Values.servingEngineSpec "modelSpec" -}}
{{- range .Values.servingEngineSpec.modelSpec -}}
{{- $model := mergeOverwrite (deepCopy $defaults) (deepCopy .) -}}
{{- $_ := set $model "fullname" (printf "%s-%s" (include "swires.fullname" $) .name) -}}
{{- $_ := set $model "routed" $.Values.routerSpec.enableRouter -}}
{{- $_ := set $model "fromHub" (regexMatch "^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$" $model.modelURL) -}}
{{- $_ := set $model "hasVolume" (or $model.fromHub $model.pvcStorage $model.existingClaim | not | not) -}}
{{- $_ := set $model "seconds" (include "swires.seconds" $model | fromJson) -}}
{{- $_ := set $model "tag" (default (printf "%s-%s" $.Chart.AppVersion (ternary "gpu" "cpu" (gt (int $model.requestGPU) 0))) $model.tag) -}}
{{- include "swires.check" (dict "root" $ "model" $model) -}}
{{- $models = append $models $model -}}
{{- end -}}
{{- toJson $models -}}
{{- end -}}

{{/* A search that has begun when the pod is told to stop may take as long as any, before the engine stops. */}}
{{- define "swires.seconds" -}}
{{- $search := ceil (default 120 .swiresConfig.timeout_s) | int -}}
{{- with .shutdown -}}
{{- $grace := add .preStopSeconds $search .flushSeconds .engineSeconds .spareSeconds -}}
{{- dict "preStop" .preStopSeconds "search" $search "grace" $grace | toJson -}}
{{- end -}}
{{- end -}}

{{/* What the schema cannot say. */}}
{{- define "swires.check" -}}
{{- $model := .model -}}
{{- $refuse := printf "modelSpec %s: %%s" $model.name -}}
{{- if not $model.modelURL -}}
{{- fail (printf $refuse "modelURL: which model is it?") -}}
{{- end -}}
{{- if not (or $model.apiKeys.secretName $model.allowNoKeys) -}}
{{- fail (printf $refuse "apiKeys.secretName: name the secret with the file of keys, or say allowNoKeys: true") -}}
{{- end -}}
{{- with $model.vllmConfig -}}
{{- $size := mul .tensorParallelSize .pipelineParallelSize .dataParallelSize | int -}}
{{- $there := mul (max 1 (int $model.requestGPU)) $model.nodes | int -}}
{{- if and (gt (int $model.requestGPU) 0) (ne $size $there) -}}
{{- fail (printf $refuse (printf "requestGPU x nodes is %d, tensorParallelSize x pipelineParallelSize x dataParallelSize is %d" $there $size)) -}}
{{- end -}}
{{- if and (gt (int $model.nodes) 1) (ne 0 (mod (int $model.requestGPU) (int .tensorParallelSize))) -}}
{{- fail (printf $refuse "tensorParallelSize: must stay within a node, whose accelerators are requestGPU") -}}
{{- end -}}
{{- end -}}
{{- if and (gt (int $model.nodes) 1) (or $model.routed (lt (int $model.requestGPU) 1)) -}}
{{- fail (printf $refuse "nodes: more than one goes with requestGPU, and not with routerSpec.enableRouter") -}}
{{- end -}}
{{- if and (gt (int $model.nodes) 1) (gt (int $model.vllmConfig.dataParallelSize) 1) -}}
{{- fail (printf $refuse "dataParallelSize: goes within a node; across nodes take more replicas") -}}
{{- end -}}
{{- if and $model.inferencePool.enabled (not $model.inferencePool.endpointPicker.name) -}}
{{- fail (printf $refuse "inferencePool.endpointPicker.name: name the Service of the endpoint picker") -}}
{{- end -}}
{{- if and $model.httpRoute.enabled (not $model.httpRoute.parentRefs) -}}
{{- fail (printf $refuse "httpRoute.parentRefs: name the gateway") -}}
{{- end -}}
{{- with .root.Values.monitoring -}}
{{- if and .serviceMonitor.enabled .podMonitor.enabled -}}
{{- fail "monitoring: one of serviceMonitor and podMonitor, or all is counted twice" -}}
{{- end -}}
{{- range $kind := list "serviceMonitor" "podMonitor" -}}
{{- $monitor := get $.root.Values.monitoring $kind -}}
{{- if and $monitor.enabled (not $model.swiresConfig.open_metrics) (not $model.allowNoKeys) (not $monitor.bearerToken.secretName) -}}
{{- fail (printf "monitoring.%s.bearerToken: name the secret with a key, as swiresConfig.open_metrics is false" $kind) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
