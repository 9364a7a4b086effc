{{/* A pod's template. A part is server, front, engine or worker; only worker answers no requests. */}}

{{- define "swires.podTemplate" -}}
{{- $model := .model -}}
{{- $front := eq .part "front" -}}
metadata:
  labels:
    {{- include "swires.labels" . | nindent 4 }}
    {{- with $model.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $model.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "swires.podCommon" .root | nindent 2 }}
  terminationGracePeriodSeconds: {{ $model.seconds.grace }}
  {{- with $model.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with $model.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if not $front }}
  {{- with $model.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with $model.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $model.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $model.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  topologySpreadConstraints: # so that no node and no zone takes all replicas with it
    {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "swires.selector" $ | nindent 10 }}
    {{- end }}
  {{- if $model.fromHub }}
  initContainers:
    - name: download
      {{- include "swires.containerCommon" . | nindent 6 }}
      command: [hf, download, {{ $model.modelURL | quote }}{{ if $front }}, swires.json, tokenizer.json{{ end }}]
      env:
        - name: HF_HOME
          value: /models/huggingface
        {{- with $model.hf_token.secretName }}
        - name: HF_TOKEN
          valueFrom:
            secretKeyRef:
              name: {{ . }}
              key: {{ $model.hf_token.secretKey }}
        {{- end }}
      volumeMounts:
        - name: models
          mountPath: /models
        - name: cache
          mountPath: /home/vllm/.cache
        - name: tmp
          mountPath: /tmp
  {{- end }}
  containers:
    - name: {{ ternary "vllm" "swires" (has .part (list "engine" "worker")) }}
      {{- include "swires.containerCommon" . | nindent 6 }}
      command:
        {{- include "swires.command" . | nindent 8 }}
      env:
        {{- include "swires.env" . | trim | nindent 8 }}
      {{- if ne .part "worker" }}
      ports:
        - name: http
          containerPort: 8000
      {{- include "swires.probes" (dict "port" "http" "live" "/health" "ready" (ternary "/health" "/ready" (eq .part "engine")) "startup" $model.startupSeconds) | nindent 6 }}
      lifecycle:
        preStop: # balancers go on sending until they have heard that the pod ends
          sleep:
            seconds: {{ $model.seconds.preStop }}
      {{- end }}
      resources:
        {{- include "swires.resources" . | nindent 8 }}
      volumeMounts:
        {{- include "swires.mounts" . | trim | nindent 8 }}
  volumes:
    {{- include "swires.volumes" . | trim | nindent 4 }}
{{- end -}}

{{- define "swires.podCommon" -}}
serviceAccountName: {{ include "swires.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false # a Service called vllm or swires would set VLLM_PORT or SWIRES_PORT to an address
securityContext:
  runAsNonRoot: true
  {{- with .Values.podSecurity }}
  {{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}
  {{- if ne (get $.Values.podSecurity $key | toJson) "null" }}
  {{ $key }}: {{ get $.Values.podSecurity $key | int }}
  {{- end }}
  {{- end }}
  {{- end }}
  fsGroupChangePolicy: OnRootMismatch # the models' volume is large
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "swires.containerCommon" -}}
image: {{ include "swires.image" .model }}
imagePullPolicy: {{ .model.imagePullPolicy }}
{{ include "swires.containerSecurity" . }}
{{- end -}}

{{- define "swires.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/*
Started: the port is opened when the model is loaded and warm, so until then there is nobody to answer.
Live: process and engine, never the load, or a full server would be killed for being full.
Ready: loaded, warm, not draining; twice missed, since a pod that leaves for a moment costs its share of the load.
*/}}
{{- define "swires.probes" -}}
startupProbe:
  httpGet:
    path: {{ .live }}
    port: {{ .port }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ div (add .startup 4) 5 }}
livenessProbe:
  httpGet:
    path: {{ .live }}
    port: {{ .port }}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: {{ .ready }}
    port: {{ .port }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end -}}

{{- define "swires.resources" -}}
{{- if eq .part "front" -}}
{{- with .root.Values.frontSpec -}}
requests:
  cpu: {{ .requestCPU | quote }}
  memory: {{ .requestMemory }}
limits:
  memory: {{ .requestMemory }}
{{- end -}}
{{- else -}}
{{- with .model -}}
requests:
  cpu: {{ .requestCPU | quote }}
  memory: {{ .requestMemory }}
  {{- if gt (int .requestGPU) 0 }}
  {{ .requestGPUType }}: {{ .requestGPU | quote }}
  {{- end }}
limits:
  {{- with .limitCPU }}
  cpu: {{ . | quote }}
  {{- end }}
  memory: {{ default .requestMemory .limitMemory }}
  {{- if gt (int .requestGPU) 0 }}
  {{ .requestGPUType }}: {{ .requestGPU | quote }}
  {{- end }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "swires.mounts" -}}
- name: cache
  mountPath: /home/vllm/.cache
- name: tmp
  mountPath: /tmp
{{- if .model.hasVolume }}
- name: models
  mountPath: /models
  readOnly: true
{{- end }}
{{- if ne .part "front" }}
- name: shm
  mountPath: /dev/shm
{{- end }}
{{- if has .part (list "server" "front") }}
{{- if .model.apiKeys.secretName }}
- name: keys
  mountPath: /keys
  readOnly: true
{{- end }}
{{- with .model.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "swires.volumes" -}}
- name: cache
  emptyDir:
    sizeLimit: {{ .model.cacheSize }}
- name: tmp
  emptyDir:
    sizeLimit: {{ .model.tmpSize }}
{{- if .model.hasVolume }}
- name: models
  {{- if or .model.pvcStorage .model.existingClaim }}
  persistentVolumeClaim:
    claimName: {{ default (printf "%s-models" .model.fullname) .model.existingClaim }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .model.modelsSize }}
  {{- end }}
{{- end }}
{{- if ne .part "front" }}
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: {{ .model.shmSize }}
{{- end }}
{{- if has .part (list "server" "front") }}
{{- with .model.apiKeys.secretName }}
- name: keys
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with .model.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}
