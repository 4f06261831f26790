//go:build !race

package routing

// defaultWorlds is how many random worlds a run looks at.
const defaultWorlds = 3000
