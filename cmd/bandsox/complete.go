package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

// completeSandboxes offers the names and ids that are there: for the first
// argument, or, where a command takes several sandboxes, those not yet named.
func (a *app) completeSandboxes(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	many := strings.Contains(cmd.Use, "SANDBOX...")
	switch path := strings.Contains(cmd.Use, ":PATH"); {
	case path && strings.ContainsAny(typed, ":/"): // the guest's files are not looked for
		return nil, cobra.ShellCompDirectiveDefault
	case path && (len(args) == 0 || cmd.Name() == "cp"):
		words, _ := a.complete(cmd, sandboxNames(typed, nil))
		for i, w := range words {
			word, about, _ := strings.Cut(w, "\t")
			words[i] = word + ":\t" + about
		}
		return words, cobra.ShellCompDirectiveNoSpace
	case len(args) > 0 && !many && (cmd.Flags().Lookup("interactive") != nil || cmd.Name() == "python"):
		return nil, cobra.ShellCompDirectiveDefault // the program's own
	case len(args) > 0 && !many:
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.complete(cmd, sandboxNames(typed, args))
}

// sandboxNames are the names that begin as typed but for some, with what they
// stand for behind a tab; ids where there is no name or one is being typed.
func sandboxNames(typed string, but []string) func(context.Context, *client.Client) []string {
	return func(ctx context.Context, m *client.Client) (words []string) {
		list, _ := m.List(ctx, bandsox.ListOptions{})
		for _, i := range list {
			if slices.Contains(but, i.ID) || i.Name != "" && slices.Contains(but, i.Name) {
				continue
			}
			about := "\t" + string(i.Status) + ", " + printable(i.Image)
			if i.Name != "" && strings.HasPrefix(i.Name, typed) {
				words = append(words, i.Name+about)
			}
			if strings.HasPrefix(i.ID, typed) && (i.Name == "" || typed != "") {
				words = append(words, i.ID+about)
			}
		}
		return words
	}
}

// completeImages offers the images of the local store.
func (a *app) completeImages(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.complete(cmd, func(ctx context.Context, m *client.Client) (words []string) {
		list, _ := m.Images(ctx)
		for _, i := range list {
			words = append(words, i.Refs...)
		}
		return words
	})
}

// complete asks the server that runs, if one does: a Tab starts none.
func (a *app) complete(cmd *cobra.Command, words func(context.Context, *client.Client) []string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), askPatience)
	defer cancel()
	m := a.found(ctx)
	if m == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer m.Close()
	return words(ctx, m), cobra.ShellCompDirectiveNoFileComp
}

// found is the server that is meant, if it answers.
func (a *app) found(ctx context.Context) *client.Client {
	url, err := a.address.remote()
	if err != nil {
		return nil
	}
	if url != "" {
		c, err := a.dial(ctx, url)
		if err != nil {
			return nil
		}
		return c
	}
	dir, err := a.stateDir()
	if err != nil {
		return nil
	}
	return findServer(ctx, dir)
}
