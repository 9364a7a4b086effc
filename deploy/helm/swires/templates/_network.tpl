{{/* Public addresses without those that are denied, as peers of a rule. */}}
{{- define "swires.blocks" -}}
{{- range $cidr := .cidrs }}
- ipBlock:
    cidr: {{ $cidr }}
    {{- $whole := has $cidr (list "0.0.0.0/0" "::/0") }}
    {{- $denied := list }}
    {{- range $.denied }}
    {{- if and $whole (eq (contains ":" .) (contains ":" $cidr)) }}{{ $denied = append $denied . }}{{ end }}
    {{- end }}
    {{- with $denied }}
    except:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
{{- end -}}

{{/* The pods of one part of a model, as a peer. */}}
{{- define "swires.peer" -}}
- podSelector:
    matchLabels:
      {{- include "swires.selector" . | nindent 6 }}
{{- end -}}

{{- define "swires.policyHead" -}}
metadata:
  name: {{ .model.fullname }}-{{ .part }}
  labels:
    {{- include "swires.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "swires.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
{{- end -}}

{{- define "swires.dnsRule" -}}
- to:
    {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    - protocol: UDP
      port: 53
    - protocol: TCP
      port: 53
{{- end -}}

{{- define "swires.hubRule" -}}
{{- if .model.fromHub }}
{{- with .root.Values.networkPolicy }}
{{- if .hub }}
- to:
    {{- include "swires.blocks" (dict "cidrs" .hub "denied" .denied) | trim | nindent 4 }}
  ports:
    - protocol: TCP
      port: 443
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
