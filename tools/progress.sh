# shellcheck shell=bash
# For scripts to source: what takes long says now and then that it still runs.

# Usage: progress TEXT COMMAND [ARG...]
# Runs the command, which may be a function, and prints "TEXT, N s" on stderr every 30 s.
progress() {
	local text=$1 open teller status
	shift
	# It ends with the last one who has the pipe open, even if this script is killed.
	exec {open}> >(while read -rt 30 || [ $? -gt 128 ]; do echo "$text, $SECONDS s" >&2; done)
	teller=$!
	# No "||" here: it would keep errexit from a function's commands.
	"$@" {open}>&-
	status=$?
	exec {open}>&-
	wait "$teller" || true
	return "$status"
}

# Usage: building WHAT ABOUT COMMAND [ARG...]
# Runs a command that builds something which is kept. ABOUT is how long it takes.
building() {
	local what=$1 about=$2
	shift 2
	echo "building $what, once, $about" >&2
	SECONDS=0
	progress "still building $what" "$@"
	echo "built $what in $SECONDS s" >&2
}
