// Package network is the vocabulary that every other room speaks: the
// plugin's Config, a pod's Selections, a network's List of plugins, the
// Attachment that comes of them, and the merged result.
//
// It is pure: it parses, validates and merges values. It opens no file by
// itself, no socket and no namespace, and it imports no other room. Folder
// reads by the functions that it is given.
package network
