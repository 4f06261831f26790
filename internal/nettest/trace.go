package nettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// StepKind says what a step of a traced plugin does.
type StepKind int

// The steps: system calls that change something outside of the plugin.
const (
	StepCreate StepKind = iota // a file below the watched directory is opened with O_CREAT
	StepWrite                  // something is written to a file below the watched directory
	StepRemove                 // a file below the watched directory is removed
	StepSync                   // a file or directory below the watched directory is synced
	StepStart                  // a delegate is started
	StepReap                   // a delegate has ended and was waited for
	StepPrint                  // something is written to stdout
)

// Step is one of these system calls.
type Step struct {
	Kind     StepKind
	Path     string // of the file, relative to the watched directory
	Data     []byte // what is written
	Delegate int    // which delegate of this call, from 1: the one started or reaped
	Done     bool   // false: the call was not made yet; true: it was
	Failed   bool   // it was made, and changed nothing
}

// TraceCNI runs a plugin in the node, as CNI does, and stops it before and
// after each of its steps until `see` returns; what the plugin does without a
// step goes on. StepReap is seen when it is done only. When `see` returns
// true, the plugin alone is killed: a step not yet done is then never done,
// and no delegate is touched. `dir` is the directory to watch.
//
// It runs under ptrace, its children do not.
func (n *Node) TraceCNI(ctx context.Context, call CNICall, dir string, see func(Step) (kill bool)) (Outcome, error) {
	files, err := newTraceFiles(call.Stdin)
	if err != nil {
		return Outcome{}, err
	}
	defer files.close()
	t := &tracer{dir: dir, see: see, threads: map[int]*tracedThread{}}
	// The thread that forks is the tracer, and alone may ask for anything.
	if err = n.Do(func() error { return t.run(ctx, call, files) }); err != nil {
		return Outcome{}, fmt.Errorf("trace %s: %w", call.Bin, err)
	}
	outcome, err := files.outcome()
	outcome.ExitCode = t.status.ExitStatus()
	if t.status.Signaled() {
		outcome.Signal = t.status.Signal()
	}
	return outcome, errors.Join(err, ctx.Err())
}

// traceFiles are a traced plugin's stdin, stdout and stderr.
type traceFiles [3]*os.File

func newTraceFiles(stdin []byte) (*traceFiles, error) {
	var files traceFiles
	for i := range files {
		fd, err := unix.MemfdCreate("trace", unix.MFD_CLOEXEC)
		if err != nil {
			files.close()
			return nil, fmt.Errorf("make a file in memory: %w", err)
		}
		files[i] = os.NewFile(uintptr(fd), "trace")
	}
	if _, err := files[0].WriteAt(stdin, 0); err != nil {
		files.close()
		return nil, fmt.Errorf("write stdin: %w", err)
	}
	return &files, nil
}

func (f *traceFiles) close() {
	for _, file := range f {
		if file != nil {
			_ = file.Close()
		}
	}
}

// outcome reads what the plugin printed.
func (f *traceFiles) outcome() (Outcome, error) {
	var texts [3][]byte
	for i := 1; i < 3; i++ {
		info, err := f[i].Stat()
		if err != nil {
			return Outcome{}, fmt.Errorf("stat output: %w", err)
		}
		texts[i] = make([]byte, info.Size())
		if _, err = f[i].ReadAt(texts[i], 0); err != nil {
			return Outcome{}, fmt.Errorf("read output: %w", err)
		}
	}
	return Outcome{Stdout: texts[1], Stderr: texts[2]}, nil
}

// tracer follows all threads of one process. Its methods run on one thread.
type tracer struct {
	dir string
	see func(Step) bool

	pid     int
	threads map[int]*tracedThread
	status  unix.WaitStatus // how the process ended

	started, reaped int // delegates
	killed          bool
}

// tracedThread is a thread between two stops.
type tracedThread struct {
	nr   uint64
	args [6]uint64
	step *Step // the call that it is in, if that is a step
}

// run starts the plugin and follows it to its end.
func (t *tracer) run(ctx context.Context, call CNICall, files *traceFiles) error {
	var err error
	t.pid, err = syscall.ForkExec(call.Bin, []string{call.Bin}, &syscall.ProcAttr{
		Env:   call.environ(),
		Files: []uintptr{files[0].Fd(), files[1].Fd(), files[2].Fd()},
		Sys:   &syscall.SysProcAttr{Ptrace: true, Setpgid: true},
	})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	process, err := unix.PidfdOpen(t.pid, 0)
	if err != nil {
		return fmt.Errorf("open process: %w", errors.Join(err, t.kill()))
	}
	defer func() { _ = unix.Close(process) }()
	stop := context.AfterFunc(ctx, func() { _ = unix.PidfdSendSignal(process, unix.SIGKILL, nil, 0) })
	defer stop()
	if err = t.follow(); err != nil {
		return errors.Join(err, t.kill())
	}
	return nil
}

// kill ends the plugin and takes its status, so that nothing is left of it.
func (t *tracer) kill() error {
	if err := unix.Kill(t.pid, unix.SIGKILL); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	for {
		pid, status, err := t.wait()
		if err != nil || pid == t.pid && (status.Exited() || status.Signaled()) {
			return err
		}
	}
}

// wait waits for a stop or the end of any of the threads.
func (t *tracer) wait() (int, unix.WaitStatus, error) {
	var status unix.WaitStatus
	for {
		// WNOTHREAD: children of other threads are not ours to wait for.
		tid, err := unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, 0, fmt.Errorf("wait for a stop: %w", err)
		}
		return tid, status, nil
	}
}

// follow lets the threads run from stop to stop.
func (t *tracer) follow() error {
	for {
		tid, status, err := t.wait()
		if err != nil {
			return err
		}
		if status.Exited() || status.Signaled() {
			delete(t.threads, tid)
			if tid == t.pid {
				t.status = status
				return nil
			}
			continue
		}
		signal, err := t.stopped(tid, status)
		if err == nil {
			err = ptrace(unix.PTRACE_SYSCALL, tid, 0, uintptr(signal))
		}
		// ESRCH: the thread was killed meanwhile; its end comes next.
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
}

// stopped looks at what a thread stopped for, and returns the signal that it
// is to go on with.
func (t *tracer) stopped(tid int, status unix.WaitStatus) (unix.Signal, error) {
	thread, known := t.threads[tid]
	if !known {
		// The first stop of a thread: SIGSTOP, or SIGTRAP by the first exec.
		t.threads[tid] = &tracedThread{}
		if tid != t.pid {
			return 0, nil
		}
		const options = unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_EXITKILL
		return 0, ptrace(unix.PTRACE_SETOPTIONS, tid, 0, options)
	}
	switch signal := status.StopSignal(); {
	case signal == unix.SIGTRAP|0x80 && t.killed:
		return 0, nil // it stopped before the kill, and makes no call any more
	case signal == unix.SIGTRAP|0x80:
		return 0, t.syscall(tid, thread)
	case signal == unix.SIGTRAP:
		return 0, nil // a thread was made
	default:
		return signal, nil
	}
}

// syscallInfo is the kernel's struct ptrace_syscall_info. For an exit, Nr is
// the return value.
type syscallInfo struct {
	Op   uint8
	_    [3]uint8
	Arch uint32
	_    [2]uint64
	Nr   uint64
	Args [6]uint64
	_    [2]uint64
}

const (
	syscallEntry = 1 // PTRACE_SYSCALL_INFO_ENTRY
	syscallExit  = 2 // PTRACE_SYSCALL_INFO_EXIT
)

func (t *tracer) syscall(tid int, thread *tracedThread) error {
	info, err := getSyscallInfo(tid)
	if err != nil {
		return err
	}
	switch info.Op {
	case syscallEntry:
		thread.nr, thread.args = info.Nr, info.Args
		thread.step, err = t.entered(thread)
		if err == nil && thread.step != nil {
			err = t.show(*thread.step)
		}
	case syscallExit:
		rval := int64(info.Nr)
		if t.endedDelegate(thread, rval) {
			err = t.show(Step{Kind: StepReap, Delegate: t.reaped, Done: true})
		} else if step := thread.step; step != nil && !restarts(rval) {
			if step.Kind == StepStart && rval >= 0 {
				t.started++
			}
			step.Done, step.Failed = true, rval < 0
			err = t.show(*step)
		}
		thread.step = nil
	}
	return err
}

// restarts reports whether a signal came first and the kernel makes the call
// again (ERESTARTSYS to ERESTART_RESTARTBLOCK, which no program ever sees).
func restarts(rval int64) bool { return rval <= -512 && rval >= -516 }

func (t *tracer) show(step Step) error {
	if !t.see(step) {
		return nil
	}
	t.killed = true
	if err := unix.Kill(t.pid, unix.SIGKILL); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	return nil
}

// entered returns the step that the call is, or nil.
func (t *tracer) entered(thread *tracedThread) (*Step, error) {
	args := thread.args
	switch thread.nr {
	case unix.SYS_OPENAT:
		if args[2]&unix.O_CREAT != 0 {
			return t.fileStep(StepCreate, args[1])
		}
	case unix.SYS_UNLINKAT:
		if args[2]&unix.AT_REMOVEDIR == 0 {
			return t.fileStep(StepRemove, args[1])
		}
	case unix.SYS_FSYNC:
		if path, ok := t.below(t.file(args[0])); ok {
			return &Step{Kind: StepSync, Path: path}, nil
		}
	case unix.SYS_WRITE, unix.SYS_PWRITE64:
		return t.write(args)
	case unix.SYS_CLONE:
		// Go tries its system calls with a child too, which runs no other program.
		// It is the one without a signal at its end.
		const atEnd = 0xff // CSIGNAL
		if args[0]&unix.CLONE_VFORK != 0 && args[0]&atEnd == uint64(unix.SIGCHLD) {
			return &Step{Kind: StepStart, Delegate: t.started + 1}, nil
		}
	}
	return nil, nil
}

func (t *tracer) write(args [6]uint64) (*Step, error) {
	step := &Step{Kind: StepPrint}
	file := t.file(args[0])
	path, below := t.below(file)
	switch {
	case args[0] == 1:
	case below:
		step.Kind, step.Path = StepWrite, path
	default:
		return nil, nil
	}
	var err error
	step.Data, err = t.memory(args[1], int(args[2]))
	return step, err
}

func (t *tracer) fileStep(kind StepKind, pathAt uint64) (*Step, error) {
	name, err := t.text(pathAt)
	if err != nil {
		return nil, err
	}
	if path, ok := t.below(name); ok {
		return &Step{Kind: kind, Path: path}, nil
	}
	return nil, nil
}

// endedDelegate counts the delegates that were waited for.
func (t *tracer) endedDelegate(thread *tracedThread, rval int64) bool {
	switch thread.nr {
	case unix.SYS_WAITID:
		if rval != 0 || thread.args[3]&unix.WNOWAIT != 0 {
			return false
		}
	case unix.SYS_WAIT4:
		if rval <= 0 {
			return false
		}
	default:
		return false
	}
	if t.reaped == t.started {
		return false
	}
	t.reaped++
	return true
}

// below returns a path relative to the watched directory.
func (t *tracer) below(path string) (string, bool) {
	return strings.CutPrefix(path, filepath.Clean(t.dir)+"/")
}

// file returns what a file descriptor of the plugin stands for.
func (t *tracer) file(fd uint64) string {
	target, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(t.pid), "fd", strconv.FormatUint(fd, 10)))
	if err != nil {
		return ""
	}
	return target
}

// text reads a string of the plugin's.
func (t *tracer) text(at uint64) (string, error) {
	var text []byte
	for len(text) < unix.PathMax {
		// Up to the end of the page: the next one may not be there.
		part, err := t.memory(at, int(pageSize-at%pageSize))
		if err != nil {
			return "", err
		}
		if end := bytes.IndexByte(part, 0); end >= 0 {
			return string(append(text, part[:end]...)), nil
		}
		text, at = append(text, part...), at+uint64(len(part))
	}
	return "", unix.ENAMETOOLONG
}

// pageSize is the smallest that processors have.
const pageSize = 4096

// memory reads the plugin's memory.
func (t *tracer) memory(at uint64, size int) ([]byte, error) {
	if size == 0 {
		return nil, nil
	}
	data := make([]byte, size)
	local := unix.Iovec{Base: &data[0]}
	local.SetLen(size)
	n, err := unix.ProcessVMReadv(t.pid, []unix.Iovec{local}, []unix.RemoteIovec{{Base: uintptr(at), Len: size}}, 0)
	if err != nil {
		return nil, fmt.Errorf("read memory: %w", err)
	}
	return data[:n], nil
}
