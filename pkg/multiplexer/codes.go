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

// codes are the CNI error codes of our own errors.
func codes(kind network.Kind) uint {
	switch kind {
	case network.Invalid:
		return types.ErrInvalidNetworkConfig
	case network.Malformed:
		return types.ErrDecodingFailure
	case network.Again:
		return types.ErrTryAgainLater
	case network.IO:
		return types.ErrIOFailure
	case network.Environment:
		return types.ErrInvalidEnvironmentVariables
	case network.Unsupported:
		return types.ErrIncompatibleCNIVersion
	case network.BadNetns:
		return types.ErrInvalidNetNS
	case network.Unknown:
		return types.ErrUnknownContainer
	case network.Missing:
		return types.ErrInternal
	}
	return types.ErrInternal
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
		return types.NewError(codes(kind), msg, "")
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
