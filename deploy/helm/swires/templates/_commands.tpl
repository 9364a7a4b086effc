{{/* What runs in the containers. A part is server, front, engine or worker. */}}

{{- define "swires.command" -}}
{{- $serve := list "swires" "serve" "--model" .model.modelURL "--host" "0.0.0.0" "--port" "8000" -}}
{{- $vllm := list "python" "-m" "vllm.entrypoints.launchers.api_server.entry" "--model" .model.modelURL -}}
{{- $command := list -}}
{{- if eq .part "server" -}}
{{- $command = concat $serve (list "--") (include "swires.vllm" .model | fromJsonArray) (include "swires.node" (dict "model" .model "rank" "0") | fromJsonArray) -}}
{{- else if eq .part "front" -}}
{{- $command = concat $serve (list "--engine" "http" "--engine-url" (printf "http://%s-router:8000" .model.fullname)) -}}
{{- else if eq .part "engine" -}}
{{- $command = concat $vllm (list "--host" "0.0.0.0" "--port" "8000" "--enable-scale-out" "--enable-prompt-tokens-details" "--shutdown-timeout" (toString .model.seconds.search)) (include "swires.images" .model | fromJsonArray) (include "swires.vllm" .model | fromJsonArray) -}}
{{- else -}}
{{- $command = concat (list "vllm" "serve" .model.modelURL "--headless") (include "swires.images" .model | fromJsonArray) (include "swires.vllm" .model | fromJsonArray) (include "swires.node" (dict "model" .model "rank" "$(LWS_WORKER_INDEX)") | fromJsonArray) -}}
{{- end -}}
{{- if eq (last $command) "--" -}}{{- $command = initial $command -}}{{- end -}}
{{- toYaml $command -}}
{{- end -}}

{{/* As `swires serve` tells its own vLLM. */}}
{{- define "swires.images" -}}
{{- list "--limit-mm-per-prompt" (dict "image" (default 1 .swiresConfig.max_images) | toJson) | toJson -}}
{{- end -}}

{{- define "swires.vllm" -}}
{{- $options := list -}}
{{- $names := dict "maxModelLen" "--max-model-len" "dtype" "--dtype" "maxNumSeqs" "--max-num-seqs" "gpuMemoryUtilization" "--gpu-memory-utilization" "tensorParallelSize" "--tensor-parallel-size" "pipelineParallelSize" "--pipeline-parallel-size" "dataParallelSize" "--data-parallel-size" -}}
{{- range $key, $option := $names -}}
{{- $value := get $.vllmConfig $key -}}
{{- if and (hasKey $.vllmConfig $key) (not (and (hasSuffix "ParallelSize" $key) (eq (int $value) 1))) -}}
{{- $options = concat $options (list $option (include "swires.text" $value)) -}}
{{- end -}}
{{- end -}}
{{- concat $options .vllmConfig.extraArgs | toJson -}}
{{- end -}}

{{/* Where a replica runs on several nodes: who of them this one is. */}}
{{- define "swires.node" -}}
{{- if gt (int .model.nodes) 1 -}}
{{- list "--nnodes" (toString .model.nodes) "--node-rank" .rank "--master-addr" "$(LWS_LEADER_ADDRESS)" | toJson -}}
{{- else -}}[]{{- end -}}
{{- end -}}

{{/* A value as it stands in a variable or on a command line; numbers without an exponent. */}}
{{- define "swires.text" -}}
{{- if kindIs "slice" . }}{{ join "," . }}{{ else if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end -}}

{{- define "swires.env" -}}
{{- if .model.hasVolume }}
- name: HF_HOME
  value: /models/huggingface
{{- end }}
- name: HF_HUB_OFFLINE # an init container fetches, nobody else
  value: "1"
{{- if ne .part "front" }}
- name: VLLM_CACHE_ROOT
  value: /home/vllm/.cache/vllm
- name: VLLM_NO_USAGE_STATS
  value: "1"
{{- end }}
{{- if has .part (list "server" "front") }}
{{- range $name, $value := .model.swiresConfig }}
{{- if ne (toJson $value) "null" }}
- name: SWIRES_{{ upper $name }}
  value: {{ include "swires.text" $value | quote }}
{{- end }}
{{- end }}
{{- if .model.apiKeys.secretName }}
- name: SWIRES_API_KEYS
  value: /keys/{{ .model.apiKeys.secretKey }}
{{- else }}
- name: SWIRES_ALLOW_NO_KEYS
  value: "true"
{{- end }}
{{- range $variable, $secret := dict "SWIRES_JUDGE_API_KEY" .model.judgeApiKey "SWIRES_ENGINE_API_KEY" .model.engineApiKey }}
{{- with $secret.secretName }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $secret.secretKey }}
{{- end }}
{{- end }}
{{- with .model.env }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}
