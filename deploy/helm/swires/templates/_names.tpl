{{- define "swires.fullname" -}}
{{- $chart := default .Chart.Name .Values.nameOverride -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name $chart) (contains $chart .Release.Name) -}}
{{- default $name .Values.fullnameOverride | trunc 30 | trimSuffix "-" -}}
{{- end -}}

{{/* What finds the pods of one part of one model: it never changes, as selectors may not. */}}
{{- define "swires.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
model: {{ .model.name }}
{{- end -}}

{{- define "swires.labels" -}}
{{ include "swires.selector" . }}
{{ include "swires.commonLabels" .root }}
{{- end -}}

{{- define "swires.commonLabels" -}}
app.kubernetes.io/part-of: swires
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "swires.releaseLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{ include "swires.commonLabels" . }}
{{- end -}}

{{- define "swires.serviceAccount" -}}
{{- default (ternary (include "swires.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{/* A repository with its digest or, else, its tag. */}}
{{- define "swires.image" -}}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end -}}
{{- end -}}
