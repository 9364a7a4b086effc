{{/* What is scraped: the servers, and where there is a router it and the engines behind it. */}}
{{- define "swires.endpoints" -}}
{{- range $port, $keyed := dict "http" true "metrics" false }}
- port: {{ $port }}
  path: /metrics
  interval: {{ $.interval }}
  scrapeTimeout: {{ $.scrapeTimeout }}
  {{- if and $keyed $.bearerToken.secretName }}
  authorization:
    credentials:
      name: {{ $.bearerToken.secretName }}
      key: {{ $.bearerToken.secretKey }}
  {{- end }}
{{- end }}
{{- end -}}
