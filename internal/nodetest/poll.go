package nodetest

import "time"

// patience is how long something may take on a busy machine.
const patience = 4 * time.Minute
