package network

// UninstallingFile stands in stateDir while multiplexer is taken off the
// node: pods that ask for networks get error 11, all else goes on. The plugin
// looks for it after it made the container's journal, so that whoever wrote
// it and then reads the journals misses no pod.
const UninstallingFile = "uninstalling"
