package sriov

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

const offerPF = "0000:17:00.0"

func offer(index int) Offer {
	pci := []string{"0000:17:02.0", "0000:17:02.1", "0000:17:02.2"}[index]
	return Offer{PCI: pci, PF: offerPF, Resource: "x/vf", Driver: "iavf", LinkType: "ether", NUMA: 1}
}

func putRecord(t *testing.T, c Claims, r Record) {
	t.Helper()
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.put(&r); err != nil {
		t.Fatal(err)
	}
}

// What is offered is advertised, together with what kubelet says of others.
func TestOffer(t *testing.T) {
	c := NewClaims(t.TempDir(), "")
	putRecord(t, c, Record{PCI: offer(1).PCI, PF: offerPF, Index: 1, Picked: true, Pod: "shop/web"})
	putRecord(t, c, Record{PCI: offer(2).PCI, PF: offerPF, Index: 2})
	refused, err := c.Offer(t.Context(), offerPF, []Offer{offer(2), offer(1), offer(0)})
	if err != nil || len(refused) != 1 || !strings.Contains(refused[offer(1).PCI], "was picked by `master` for pod shop/web") {
		t.Errorf("%v, %v", refused, err)
	}
	got, err := c.Offers()
	if diff := cmp.Diff([]Offer{offer(0), offer(2)}, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if err = c.Advertise(map[string][]string{"y/other": {"0000:99:00.1"}}); err != nil {
		t.Fatal(err)
	}
	advertised, err := c.Advertised()
	want := map[string]string{offer(0).PCI: "x/vf", offer(2).PCI: "x/vf", "0000:99:00.1": "y/other"}
	if diff := cmp.Diff(want, advertised); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	info, err := os.Stat(c.offersPath())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	again, err := c.Offers()
	if err != nil || c.SetOffers(again) != nil {
		t.Error(err)
	}
	if same, statErr := os.Stat(c.offersPath()); statErr != nil || !os.SameFile(info, same) {
		t.Error("the same again was written again")
	}
	if err = c.guardOffered(&Device{PCI: offer(0).PCI, PF: PF{Name: "ens1f0"}}); !errors.Is(err, network.Invalid) || !strings.Contains(err.Error(), "x/vf") {
		t.Errorf("a pick of what is offered: %v", err)
	}
	if err = c.guardOffered(&Device{PCI: offer(1).PCI}); err != nil {
		t.Errorf("a pick of what is not: %v", err)
	}
}

func TestOfferOfHeldPF(t *testing.T) {
	c := NewClaims(t.TempDir(), "")
	putRecord(t, c, Record{PCI: offerPF, PF: offerPF, Index: -1, Pod: "shop/web"})
	refused, err := c.Offer(t.Context(), offerPF, []Offer{offer(0), {PCI: offerPF, PF: offerPF, Resource: "x/pf"}})
	if err != nil || len(refused) != 1 || !strings.Contains(refused[offer(0).PCI], "its PF is held by pod shop/web") {
		t.Errorf("%v, %v", refused, err)
	}
}

// Who works on the PF makes an offer wait, as long as it is told to.
func TestOfferWaitsForThePF(t *testing.T) {
	c := NewClaims(t.TempDir(), "")
	unlock, err := c.lock(t.Context(), offerPF)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = c.Offer(ctx, offerPF, []Offer{offer(0)}); !errors.Is(err, network.Again) {
		t.Errorf("%v", err)
	}
	if exists(c.offersPath()) {
		t.Error("it was written without the lock")
	}
	unlock()
	if _, err = c.Offer(t.Context(), offerPF, []Offer{offer(0)}); err != nil {
		t.Error(err)
	}
}

// What is damaged is said, with what becomes of it.
func TestOffersDamaged(t *testing.T) {
	c := NewClaims(t.TempDir(), "")
	for text, want := range map[string]string{
		"{":       "unexpected end of JSON",
		"\x00":    "",
		`{"x":1}`: "",
		`{"devices": [{"pci": "../../etc/passwd"}]}`: "is no PCI address",
	} {
		if err := os.WriteFile(c.offersPath(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := c.Offers()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", text, err)
		}
		if _, err = c.Advertised(); want == "" && err != nil || want != "" && !errors.Is(err, network.IO) {
			t.Errorf("%q advertised: %v", text, err)
		}
	}
	if err := c.SetOffers(nil); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Offers(); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestClaimsByDevice(t *testing.T) {
	c := NewClaims(t.TempDir(), "")
	if got, err := c.ByDevice(); err != nil || len(got) != 0 {
		t.Errorf("%v, %v without any", got, err)
	}
	putRecord(t, c, Record{PCI: offer(0).PCI, PF: offerPF, Failed: "no"})
	raw, err := json.Marshal(Record{PCI: offer(2).PCI})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{offer(1).PCI + ".json": string(raw), offer(2).PCI + ".lock": "", "x.tmp": "{"} {
		if err = os.WriteFile(filepath.Join(c.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.ByDevice()
	if err != nil || len(got) != 2 || got[offer(0).PCI].Failed != "no" || got[offer(1).PCI].Damaged == nil || got[offer(1).PCI].Record != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func TestComparePCI(t *testing.T) {
	want := []string{"0000:02:00.0", "0000:17:02.1", "0000:17:0a.0", "0001:00:00.0", "ffff:00:00.0", "10000:01:00.0"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, ComparePCI)
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

// Two agents write at once, in an upgrade: the file is whole at any time.
func TestOffersOfTwoAgents(t *testing.T) {
	c := NewClaims(t.TempDir(), "")
	list := make([]Offer, 200)
	for i := range list {
		list[i] = Offer{PCI: fmt.Sprintf("0000:17:%02x.%d", i/8, i%8), PF: offerPF, Resource: "x/vf"}
	}
	if err := c.SetOffers(list); err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	failed := make([]error, 2)
	for agent := range failed {
		writing.Go(func() {
			for i := range 300 {
				failed[agent] = errors.Join(failed[agent], c.SetOffers(list[:len(list)-i%2-agent]))
			}
		})
	}
	written := make(chan struct{})
	go func() { writing.Wait(); close(written) }()
	for open := true; open; {
		select {
		case <-written:
			open = false
		default:
		}
		if got, err := c.Offers(); err != nil || len(got) < len(list)-2 {
			t.Fatalf("%d devices, %v", len(got), err)
		}
	}
	if err := errors.Join(failed...); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(c.Dir), "*.tmp")); err != nil || len(left) > 0 {
		t.Errorf("left over: %q, %v", left, err)
	}
}

// Two agents list devices of two PFs at once: none is lost.
func TestOfferByTwoAgents(t *testing.T) {
	for range 100 {
		c := NewClaims(t.TempDir(), "")
		failed := make([]error, 2)
		var offering sync.WaitGroup
		begin := make(chan struct{})
		for agent := range failed {
			offering.Go(func() {
				<-begin
				pf := fmt.Sprintf("0000:%02x:00.0", agent+1)
				_, failed[agent] = c.Offer(t.Context(), pf, []Offer{{PCI: fmt.Sprintf("0000:%02x:02.0", agent+1), PF: pf, Resource: "x/vf"}})
			})
		}
		close(begin)
		offering.Wait()
		if got, err := c.Offers(); errors.Join(append(failed, err)...) != nil || len(got) != 2 {
			t.Fatalf("%v, %v, %v", got, failed, err)
		}
	}
}

// Who writes the file makes an offer wait, as long as it is told to.
func TestOfferWaitsForTheFile(t *testing.T) {
	c := NewClaims(t.TempDir(), "")
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	unlock, err := c.lockOffers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = c.Offer(ctx, offerPF, []Offer{offer(0)}); !errors.Is(err, network.Again) || !strings.Contains(err.Error(), "devices.json") {
		t.Errorf("%v", err)
	}
	if exists(c.offersPath()) {
		t.Error("it was written without the lock")
	}
	unlock()
	if _, err = c.Offer(t.Context(), offerPF, []Offer{offer(0)}); err != nil {
		t.Error(err)
	}
}
