// Package killtest ends every program of a node at every moment of
// multiplexer's life there, and looks whether pods, node and what is on its
// disk are right afterwards: the table of docs/kill-matrix.md.
//
// A row is one disturbance of four real nodes at once, see nodetest, and each
// of them is at another moment: one attaches a pod, detaches one and has two
// that run; one is being installed, one upgraded, one uninstalled. In the next
// row each node is one moment further, so that what an earlier disturbance
// left behind meets the later ones: a node's pods live from its installation
// to its uninstallation, through a row of each.
package killtest
