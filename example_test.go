package bandsox_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/bandsox/bandsox"
)

// The whole of it: a sandbox, a program in it, and nothing left afterwards.
// `go run ./examples/try` does more of the same, and can be run.
func Example() {
	ctx := context.Background()
	m, err := bandsox.Open(ctx, bandsox.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	sb, err := m.Create(ctx, bandsox.CreateOptions{Image: "python:3-alpine", MemMiB: 256})
	if err != nil {
		log.Fatal(err)
	}
	defer sb.Delete(ctx)
	out, err := sb.Command("python3", "-c", "print(6*7)").Output(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", out)
}

// Streams, user, environment, a time limit, and how a program ended.
func ExampleCmd() {
	ctx := context.Background()
	var sb *bandsox.Sandbox // from Manager.Create or Manager.Get
	cmd := sb.Command("sort", "-u")
	cmd.Stdin = strings.NewReader("b\na\nb\n")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.User, cmd.Env, cmd.Timeout = "nobody", []string{"LC_ALL=C"}, 10*time.Second
	var exit *bandsox.ExitError
	switch err := cmd.Run(ctx); {
	case errors.As(err, &exit) && exit.Timeout:
		fmt.Println("it took too long")
	case errors.As(err, &exit):
		fmt.Println("it ended with", exit.Code)
	case errors.Is(err, bandsox.ErrUnavailable):
		fmt.Println("the sandbox broke down before it ended")
	}
}

// Files go in and out whole, without pausing anything.
func ExampleSandbox_WriteFile() {
	ctx := context.Background()
	var sb *bandsox.Sandbox
	if err := sb.WriteFile(ctx, "/app/main.py", []byte("print('hello')\n"), 0o644); err != nil {
		log.Fatal(err)
	}
	b, err := sb.ReadFile(ctx, "/app/main.py")
	fmt.Println(len(b), err)
}

// Run creates a sandbox, runs one program in it and throws it away.
func ExampleManager_Run() {
	ctx := context.Background()
	m, err := bandsox.Open(ctx, bandsox.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	_, err = m.Run(ctx, bandsox.RunOptions{
		CreateOptions: bandsox.CreateOptions{Image: "alpine"},
		Args:          []string{"uname", "-a"},
		Prepare:       func(c *bandsox.Cmd) { c.Stdout = os.Stdout },
	})
	fmt.Println(err)
}

// What this machine can do, and what to type about what it can't.
func ExampleDoctor() {
	report, err := bandsox.Doctor(context.Background(), bandsox.DoctorOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range report.Checks {
		if c.Status != bandsox.StatusOK {
			fmt.Printf("%s: %s; to mend it: %s\n", c.Name, c.Detail, c.Fix)
		}
	}
}
