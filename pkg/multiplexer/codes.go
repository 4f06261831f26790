package multiplexer

import (
	"errors"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// CNI's codes for STATUS (CNI 1.1 section 5, "Error").
const codeNotAvailable = 50

// code is the CNI error code of our own errors.
func code(kind network.Kind) uint {
	known, ok := map[network.Kind]uint{
		network.Unsupported: types.ErrIncompatibleCNIVersion,
		network.Unknown:     types.ErrUnknownContainer,
		network.Environment: types.ErrInvalidEnvironmentVariables,
		network.IO:          types.ErrIOFailure,
		network.Malformed:   types.ErrDecodingFailure,
		network.Invalid:     types.ErrInvalidNetworkConfig,
		network.BadNetns:    types.ErrInvalidNetNS,
		network.Again:       types.ErrTryAgainLater,
	}[kind]
	if !ok {
		return types.ErrInternal
	}
	return known
}

// cniError gives an error its code: a delegate's own, unchanged, else that
// of its kind. The text is kept whole.
func cniError(err error) error {
	msg := strings.ReplaceAll(err.Error(), "\n", "; ") // errors.Join's separator
	var own *types.Error
	if errors.As(err, &own) {
		return types.NewError(own.Code, msg, own.Details)
	}
	var kind network.Kind
	switch {
	case errors.As(err, &kind):
		return types.NewError(code(kind), msg, "")
	case errors.Is(err, journal.ErrBusy):
		return types.NewError(types.ErrTryAgainLater, msg, "")
	}
	return types.NewError(types.ErrInternal, msg, "")
}

// presentable rewords what containerd's go-cni takes for success of a DEL,
// wherever it stands in the message: the failure would be lost.
func presentable(err error) error {
	var e *types.Error
	if !errors.As(err, &e) {
		return err
	}
	reword := strings.NewReplacer("not found", "absent", "no such file or directory", "file is missing")
	return types.NewError(e.Code, reword.Replace(e.Msg), reword.Replace(e.Details))
}
