{{- /* Name of what belongs to the operator: the release's, with "forebay" in it. */ -}}
{{- define "forebay.name" -}}
{{- if contains "forebay" .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-forebay" .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "forebay.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "forebay.name" .) -}}
{{- end -}}

{{- /* What the operator's pods are found by. */ -}}
{{- define "forebay.selector" -}}
app.kubernetes.io/name: forebay-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "forebay.labels" -}}
{{ include "forebay.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* An image's reference: (list root image). */ -}}
{{- define "forebay.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end -}}

{{- define "forebay.monitoringLabels" -}}
{{ include "forebay.labels" . }}
{{- with .Values.monitoring.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Not empty where an object of the Prometheus operator is wanted: (list root kind). */ -}}
{{- define "forebay.monitored" -}}
{{- $root := index . 0 -}}
{{- $enabled := $root.Values.monitoring.enabled -}}
{{- if or (eq $enabled "always") (and (eq $enabled "auto") ($root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" (index . 1)))) -}}
true
{{- end -}}
{{- end -}}
