package install

import (
	"strconv"
	"strings"
)

// Reason says what happened on the node, in the form of a Kubernetes event's
// reason and of a metric's label.
type Reason string

// The reasons. Those that need somebody's hand are warnings.
const (
	PluginInstalled Reason = "PluginInstalled" // the executable was put in place
	ConfWritten     Reason = "ConfWritten"     // our conf was put in place, or made anew for the cluster network
	ClusterMissing  Reason = "ClusterMissing"  // there is no cluster network to make a conf for; a conf in place stays
	ConfTaken       Reason = "ConfTaken"       // our conf was removed, renamed or edited by somebody else
	ConfShadowed    Reason = "ConfShadowed"    // the runtime reads another file before ours
	MovedAside      Reason = "MovedAside"      // another meta-plugin's conf was taken out of first place
	PluginTaken     Reason = "PluginTaken"     // the executable was removed or replaced by somebody else
	GivenUp         Reason = "GivenUp"         // what was taken is not taken back again for now
	Uninstalling    Reason = "Uninstalling"    // the node is being uninstalled: nothing is put in place
	Failed          Reason = "InstallFailed"   // the node refuses a change; tried again
	Removed         Reason = "Removed"         // one of our files was taken off the node
	PluginKept      Reason = "PluginKept"      // the executable stays for pods that still need it
)

// Event is something to tell: to the log, as an event of the Node, in a metric.
type Event struct {
	Reason  Reason
	Warning bool
	File    string // the node's path, where it is about a file
	Message string // a sentence that says what to do
}

// say tells an event once, until something else is to be said about the same.
func (n *Installer) say(e Event) {
	about := string(e.Reason) + " " + e.File
	if n.said[about] == e.Message {
		return
	}
	if n.said == nil {
		n.said = map[string]string{}
	}
	n.said[about] = e.Message
	n.tell(e)
}

// hush forgets what was said about something that is over, so that it is
// said when it comes again.
func (n *Installer) hush(reason Reason, file string) { delete(n.said, string(reason)+" "+file) }

// tell tells an event in one line: names of others' files are in it.
func (n *Installer) tell(e Event) {
	if strings.Contains(e.File, "\n") {
		e.File = strconv.Quote(e.File)
	}
	e.Message = strings.ReplaceAll(e.Message, "\n", `\n`)
	if n.Tell != nil {
		n.Tell(e)
	}
}

// Reasons are all of them.
func Reasons() []Reason {
	return []Reason{
		PluginInstalled, ConfWritten, ClusterMissing, ConfTaken, ConfShadowed, MovedAside,
		PluginTaken, GivenUp, Uninstalling, Failed, Removed, PluginKept,
	}
}
