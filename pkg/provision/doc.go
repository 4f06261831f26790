// Package provision gives PFs their VFs, as the device plugin's configuration
// asks for them, and takes them back when it asks no more. It touches no PF
// that the configuration does not name, and nothing that a pod has. What a PF
// was like is on disk before it is changed.
package provision
