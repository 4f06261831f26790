{{/* One installation per cluster: its files on the nodes have fixed names. */}}
{{- define "multiplexer.labels" -}}
app.kubernetes.io/name: multiplexer
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "multiplexer.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The node's directories. The containers see them under the same names, so
that what a log or a file says is where it is. */}}
{{- define "multiplexer.paths" -}}
{{- $platforms := dict "" (dict "confDir" "/etc/cni/net.d" "binDir" "/opt/cni/bin") "k3s" (dict "confDir" "/var/lib/rancher/k3s/agent/etc/cni/net.d" "binDir" "/var/lib/rancher/k3s/data/cni") -}}
{{- $platform := get $platforms .Values.platform -}}
{{- $options := .Values.cni.options -}}
{{- $confDir := .Values.cni.confDir | default $platform.confDir -}}
{{- $cluster := $options.clusterNetwork | default "" -}}
{{- $clusterDir := "" -}}
{{- if hasPrefix "/" $cluster -}}
{{- $clusterDir = ternary (dir $cluster) (clean $cluster) (has (ext $cluster) (list ".conf" ".conflist" ".json")) -}}
{{- end -}}
confDir: {{ $confDir }}
binDir: {{ .Values.cni.binDir | default $platform.binDir }}
stateDir: {{ $options.stateDir | default "/var/lib/cni/multiplexer" }}
cniDir: {{ $options.cniDir | default "/var/lib/cni/multus" }}
socket: {{ $options.agentSocket | default "/run/multiplexer/agent.sock" }}
{{- $files := $options.confDir | default "/etc/cni/multiplexer/net.d" | clean }}
filesDir: {{ ternary "" $files (or (eq $files (clean $clusterDir)) (hasPrefix (printf "%s/" (clean $confDir)) (printf "%s/" $files))) | quote }}
clusterDir: {{ ternary "" $clusterDir (eq $clusterDir (clean $confDir)) | quote }}
{{- end }}

{{/* 90 % of the memory limit: the collector works harder before the kernel kills. */}}
{{- define "multiplexer.memoryLimit" -}}
{{- $memory := .Values.resources.memory | toString -}}
{{- $mib := trimSuffix "Mi" $memory | int -}}
{{- if hasSuffix "Gi" $memory -}}
{{- $mib = mul 1024 (trimSuffix "Gi" $memory | int) -}}
{{- end -}}
{{ div (mul $mib 9) 10 }}MiB
{{- end }}

{{- define "multiplexer.resources" -}}
{{- range list "requests" "limits" }}
{{ . }}:
  {{- toYaml $.Values.resources | nindent 2 }}
{{- end }}
{{- end }}

{{/* What all pods have in common. */}}
{{- define "multiplexer.pod" -}}
# The pod must not wait for the network that it installs, and netlink, uevents
# and sysfs show the NICs of the namespace that one is in.
hostNetwork: true
dnsPolicy: Default
hostPID: false
hostIPC: false
enableServiceLinks: false
priorityClassName: {{ .Values.priorityClassName }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The pods that change the node. */}}
{{- define "multiplexer.podSecurity" -}}
securityContext:
  seccompProfile:
    type: RuntimeDefault
  {{- with .Values.seLinuxType }}
  # container_t may neither write /etc/cni and /opt/cni/bin nor talk to kubelet.
  seLinuxOptions:
    type: {{ . }}
  {{- end }}
  {{- if .Values.devicePlugin.provisioning }}
  # The runtimes' AppArmor profile forbids to write below /sys.
  appArmorProfile:
    type: Unconfined
  {{- end }}
{{- end }}

{{/* root, for the node's directories are root's, and the plugin believes
nobody else. Without capabilities root is a user like any other. */}}
{{- define "multiplexer.securityContext" -}}
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsUser: 0
runAsGroup: 0
capabilities:
  drop: [ALL]
  {{- with .add }}
  add: {{ toJson . }}
  {{- end }}
{{- end }}

{{- define "multiplexer.flags" -}}
{{- range $name, $value := . }}
- --{{ $name }}={{ $value }}
{{- end }}
{{- end }}

{{/* What install and uninstall change. */}}
{{- define "multiplexer.nodeMounts" -}}
- name: conf-dir
  mountPath: {{ .confDir }}
- name: bin-dir
  mountPath: {{ .binDir }}
- name: state
  mountPath: {{ .stateDir }}
{{- end }}

{{- define "multiplexer.nodeVolumes" -}}
- name: conf-dir
  hostPath:
    path: {{ .confDir }}
    type: DirectoryOrCreate
- name: bin-dir
  hostPath:
    path: {{ .binDir }}
    type: DirectoryOrCreate
- name: state
  hostPath:
    path: {{ .stateDir }}
    type: DirectoryOrCreate
{{- end }}

{{/* NET_ADMIN sets up PFs. All else is done as the owner of the files. */}}
{{- define "multiplexer.capabilities" -}}
{{- $add := .Values.extraCapabilities -}}
{{- if .Values.devicePlugin.provisioning -}}
{{- $add = prepend $add "NET_ADMIN" | uniq -}}
{{- end -}}
{{ toJson $add }}
{{- end }}

{{- define "multiplexer.apiServer" -}}
{{- with .Values.apiServer }}
{{- if .host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ .host | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ .port | quote }}
{{- end }}
{{- end }}
{{- end }}
