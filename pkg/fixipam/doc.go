// Package fixipam is the embedded IPAM plugin of hustcat/sriov-cni: the pod
// itself says which address it gets, and the network's definition says which
// it may have. Nothing is allocated and nothing is kept, so two pods that ask
// for one address both get it.
//
//	conf    the configuration as JSON, and which address is asked for
//	subnet  which addresses are legal
//	route   the routes, checked and passed on
//	check   the address against prevResult
package fixipam
