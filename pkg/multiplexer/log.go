package multiplexer

import (
	"io"
	"log/slog"
	"os"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// newLog returns the logger that the configuration asks for, and its file if
// it has one. The file is appended to and not rotated.
func newLog(config *network.Config, stderr io.Writer) (*slog.Logger, *os.File, error) {
	var to []io.Writer
	var file *os.File
	if config.LogToStderr {
		to = append(to, stderr)
	}
	if config.LogFile != "" {
		var err error
		if file, err = os.OpenFile(config.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			return nil, nil, network.IO.Errorf("logFile: %w", err)
		}
		to = append(to, file)
	}
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "verbose": slog.LevelInfo, "info": slog.LevelInfo,
		"warning": slog.LevelWarn, "error": slog.LevelError, "panic": slog.LevelError + 4,
	}
	handler := slog.NewTextHandler(io.MultiWriter(to...), &slog.HandlerOptions{Level: levels[config.LogLevel]})
	return slog.New(handler), file, nil
}
