// Package delegate runs one attachment: libcni walks the chain of plugins,
// and this room's Exec starts each, as an executable or, for embedded types,
// in this process.
//
// libcni sees a short stand-in for each plugin's configuration and adds the
// keys that CNI asks for; the Exec lays those keys over the bytes as they
// were written. So chains, capabilities and the order of DEL are libcni's,
// and no value of an unknown key is rounded or lost.
package delegate
