// Tenant operates the books of package tenant from a shell: what they hold, what tenants may use, and what is done with either.
//
//	export TENANT_DATABASE_URL=postgres://app@db.internal/app
//	tenant status
//	tenant usage --period last-month --by tenant
//
// docs/command.md has every command, what it prints, and the exit codes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// exits is how kong ends the program after it has shown help.
type exits int

func main() {
	// Whoever reads the output may go: that is an error of the write then, so that the ledger is closed.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one ends it at once
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run runs a command line, and returns its exit code.
func run(ctx context.Context, args []string, in *os.File, out, to io.Writer) (code int) {
	problems := &output{w: to}
	var c cli
	parser, err := kong.New(&c, kong.Name("tenant"), kong.Writers(out, problems), kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
		kong.Vars{"period": periodHelp}, kong.Exit(func(code int) { panic(exits(code)) })) //nolint:forbidigo // kong has no other way out of its help
	if err != nil {
		problems.say("tenant: %v", err)
		return failed
	}
	defer func() {
		switch e := recover().(type) {
		case nil:
		case exits:
			code = int(e)
		default:
			panic(e) //nolint:forbidigo // it is not ours
		}
	}()
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(spelled(parser.Model, args))
	if err != nil {
		problems.say("tenant: %s", oneLine(err.Error()))
		problems.say("Type `tenant --help`, or `tenant COMMAND --help`.")
		return usage
	}
	a := &app{cli: &c, parser: parser, in: in, out: &output{w: out}, problems: problems}
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = parsed.Run(a)
	if err == nil {
		err = a.out.err
	}
	code = exitCode(err)
	if text := explain(err); text != "" && code != gone {
		problems.say("tenant: %s", text)
	}
	return code
}

// spelled puts the group's name before a command of it that was typed without: "tenant show" is "tenant tenant show".
func spelled(model *kong.Application, args []string) []string {
	takesValue := map[string]bool{}
	for _, f := range model.Flags {
		if !f.IsBool() {
			takesValue["--"+f.Name] = true
			if f.Short != 0 {
				takesValue["-"+string(f.Short)] = true
			}
		}
	}
	for i := 0; i < len(args); i++ {
		switch {
		case takesValue[args[i]]:
			i++
		case !strings.HasPrefix(args[i], "-"):
			for _, n := range model.Children {
				if n.Name == "tenant" {
					for _, below := range n.Children {
						if below.Name == args[i] {
							return append(append(args[:i:i], "tenant"), args[i:]...)
						}
					}
				}
			}
			return args
		}
	}
	return args
}

// oneLine is a text without line breaks and whatever else could drive a terminal.
func oneLine(s string) string { return plain(strings.Join(strings.Fields(s), " ")) }

// errUsage is what is wrong with what was typed.
type errUsage struct{ text string }

func (e *errUsage) Error() string { return e.text }

func wrong(format string, args ...any) error { return &errUsage{fmt.Sprintf(format, args...)} }

// errDiffers says that what was compared is not the same. It was told already.
var errDiffers = errors.New("differences were found")
