//go:build race

package routing

// defaultWorlds are fewer here: the race detector makes them slow.
const defaultWorlds = 600
