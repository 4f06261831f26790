// Package install puts the plugin and its conf onto a node, keeps them in
// their place, and takes them off again. It also turns Multus's
// configurations into ours.
//
// At every instant, also after a kill, the runtime finds either the cluster's
// own configuration first, or ours with the plugin in place. See
// docs/adr/0017-install-and-uninstall.md.
package install
