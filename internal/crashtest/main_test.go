package crashtest

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
)

// TestMain runs more series side by side than there are processors, unless
// -parallel says how many: most of the time a delegate sleeps.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(fmt.Sprint(2 * runtime.GOMAXPROCS(0))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
