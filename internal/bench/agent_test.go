package main

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
)

func TestUnusedNetwork(t *testing.T) {
	for _, i := range []int{0, definitionsInAll} {
		name, config := unusedNetwork(i)
		list, err := libcni.ConfListFromBytes([]byte(config))
		if err != nil {
			t.Fatal(err)
		}
		if list.Name != name || len(config) < 550 || len(config) > 650 {
			t.Errorf("%q in %q, %d bytes, want %q and about 600", list.Name, config, len(config), name)
		}
	}
}

func TestRates(t *testing.T) {
	var counter atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			counter.Add(10)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	got, err := rates(ctx, 600*time.Millisecond, &counter, nil)
	if err != nil || len(got) < 2 || got[0] <= 0 || got[0] > 1100 {
		t.Errorf("%v, %v, want two or more samples of at most 1000 a second", got, err)
	}
	broken := errors.New("broken")
	failed := make(chan error, 1)
	failed <- broken
	if _, err = rates(ctx, time.Second, &counter, failed); !errors.Is(err, broken) {
		t.Errorf("error %v, want that of who counts", err)
	}
}
