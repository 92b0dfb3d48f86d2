// Command bandsox runs programs in microVMs made from container images.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bandsox/bandsox"
)

// version is linked in by make; go install leaves the module's own.
var version = ""

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	// A reader that goes away (| head) is an error to handle, not a sudden end
	// that would leave a machine behind.
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	interrupts := watchInterrupts(cancel)
	cmd := newRoot(&app{interrupts: interrupts})
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if code, ok := interrupts.ended(err); ok {
		return int(code)
	}
	return report(os.Stderr, err)
}

// app is what the commands share: the global flags and what follows from them.
type app struct {
	storage     string
	driver      string
	accel       string
	agent       string
	mirrors     []string
	insecure    []string
	caFiles     []string
	noTemplates bool   // boot every sandbox
	memory      string // how many times the host's may be promised
	quiet       bool
	verbose     bool

	keepLeftovers bool // cleanup says what there is, then does it

	flags   *pflag.FlagSet // the global ones
	address address
	local   bool // the server is on this machine

	interrupts *interrupts
	bars       *progress
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "bandsox",
		Short: "Run programs in microVMs made from container images",
		Long: `BandSox gives a program its own computer in a blink: a microVM made from a
container image, with its own kernel, to run code in that you don't trust.

  bandsox doctor                              what this machine can do
  bandsox init                                get a guest kernel, once
  bandsox run alpine uname -a                 run a program and throw the microVM away
  tar c . | bandsox run -i alpine tar x       pipes keep every byte
  bandsox run -it debian                      a shell in one`,
		Version:           buildVersion(),
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRun:  func(*cobra.Command, []string) { a.setLog() },
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	f := root.PersistentFlags()
	a.flags = f
	a.address.add(f)
	f.StringVar(&a.storage, "storage", "", "state directory (default $BANDSOX_STORAGE, else /var/lib/bandsox as root)")
	f.StringVar(&a.driver, "driver", os.Getenv("BANDSOX_DRIVER"), "virtual machine monitor: firecracker or qemu (default the best that runs here)")
	f.StringVar(&a.accel, "accel", os.Getenv("BANDSOX_ACCEL"), "kvm or tcg (default kvm where it proves to work)")
	f.StringVar(&a.agent, "agent", os.Getenv("BANDSOX_AGENT"), "guest agent program (default the one built in)")
	f.StringArrayVar(&a.mirrors, "registry-mirror", nil, "HOST=MIRROR: try MIRROR before registry HOST; repeatable")
	f.StringArrayVar(&a.insecure, "insecure-registry", nil, "speak plain HTTP, or TLS unverified, to registry HOST; repeatable")
	f.StringArrayVar(&a.caFiles, "registry-ca", nil, "trust the certificate authorities in this PEM file; repeatable")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "no progress")
	f.BoolVar(&a.verbose, "verbose", false, "log what happens behind the scenes")
	f.StringVar(&a.memory, "mem-overcommit", os.Getenv("BANDSOX_MEM_OVERCOMMIT"), "how many times the memory that the host has to give may be promised to sandboxes (default 4)")
	_ = f.MarkHidden("agent")
	root.AddCommand(
		newRun(a), newCreate(a), newExec(a), newTop(a), newAttach(a), newTerminal(a),
		newCopy(a), newLs(a), newFind(a), newGrep(a), newWatch(a),
		newList(a), newInspect(a), newLogs(a),
		newStart(a), newStop(a), newRestart(a), newPause(a), newResume(a), newKill(a), newRemove(a),
		newUpdate(a), newRename(a), newWait(a), newSnapshot(a), newFork(a),
		newEvents(a), newStats(a), newPython(a),
		newPortForward(a), newProxy(a), newSSHConfig(a), newVM(a),
		newImage(a), newBuild(a), newServe(a), newAuth(a), newInit(a), newDoctor(a), newCleanup(a), newUsage(a), newVersion(),
	)
	return root
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

func newVersion() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return writeJSON(os.Stdout, map[string]string{"version": buildVersion(), "go": runtime.Version(), "arch": bandsox.Arch})
			}
			fmt.Println("bandsox " + buildVersion())
			return nil
		},
	}
	jsonFlag(cmd, &asJSON, oneJSON)
	return cmd
}

func (a *app) setLog() {
	level := slog.LevelWarn
	if a.verbose {
		level = slog.LevelDebug
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
}

// config is what the global flags make of a manager.
func (a *app) config() (cfg bandsox.Config, err error) {
	mirrors, err := parseMirrors(a.mirrors)
	if err != nil {
		return cfg, err
	}
	overcommit := 0.0
	if a.memory != "" {
		if overcommit, err = strconv.ParseFloat(a.memory, 64); err != nil || !(overcommit > 0) {
			return cfg, usageError("--mem-overcommit %q: must be a number above 0", a.memory)
		}
	}
	return bandsox.Config{
		MemoryOvercommit: overcommit,
		Storage:          a.storage, Driver: a.driver, Accel: a.accel, Agent: a.agent, KeepLeftovers: a.keepLeftovers,
		NoTemplates: a.noTemplates,
		Images:      bandsox.ImageSources{Mirrors: mirrors, Insecure: a.insecure, CAFiles: a.caFiles},
	}, nil
}
