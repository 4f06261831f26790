// Package plan turns what a pod asks for into attachments that are ready to
// run: the annotation, the definitions it names and the rules of who may
// name them become an ordered list.
//
// It decides; it has no effects. Definitions come through one small
// interface, of which Dir, the node's own directory, is one.
package plan
