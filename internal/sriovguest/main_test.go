package sriovguest

import (
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/guest"
)

func TestMain(m *testing.M) { guest.Main(m) }
