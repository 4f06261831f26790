package multiplexer

import (
	"io"
	"log/slog"
	"os"

	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// newLog returns the logger that the configuration asks for, and its file if
// it has one. The file is appended to and not rotated. A file that cannot be
// opened is said on standard error: no pod fails for want of a log.
func newLog(config *network.Config, stderr io.Writer) (*slog.Logger, *os.File) {
	var to []io.Writer
	var file *os.File
	var fileErr error
	if config.LogToStderr {
		to = append(to, stderr)
	}
	if config.LogFile != "" {
		if file, fileErr = lockfile.OpenAppend(config.LogFile); fileErr == nil {
			to = append(to, file)
		} else if !config.LogToStderr {
			to = append(to, stderr)
		}
	}
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "verbose": slog.LevelInfo, "info": slog.LevelInfo,
		"warning": slog.LevelWarn, "error": slog.LevelError, "panic": slog.LevelError + 4,
	}
	handler := slog.NewTextHandler(io.MultiWriter(to...), &slog.HandlerOptions{Level: levels[config.LogLevel]})
	log := slog.New(handler)
	if fileErr != nil {
		log.Error("logFile cannot be opened", "error", fileErr.Error())
	}
	return log, file
}
