package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"varve/broker"
)

//go:generate go run . config reference --out ../../configs/reference.yaml

func (a *app) configCommand() *cobra.Command {
	return a.noun("config", "Check and explain the broker's configuration",
		a.configValidateCommand(), a.configExplainCommand(), a.configReferenceCommand())
}

// sourceFlags adds the flags that name where configuration comes from.
func sourceFlags(cmd *cobra.Command, src *broker.Sources) {
	cmd.Flags().StringVarP(&src.File, "config", "c", "", "configuration `FILE`, a flat YAML map")
	cmd.Flags().StringArrayVarP(&src.Sets, "set", "X", nil, "set `KEY=VALUE` over file and environment")
	cmd.Flags().BoolVar(&src.Dev, "dev", false, "defaults for trying things: a directory beside the data is the object store")
}

// keyFlags adds the flags that are keys, such as --listen.
func keyFlags(cmd *cobra.Command) {
	for _, k := range broker.Keys() {
		if k.Flag != "" {
			usage := k.Doc
			if k.Default != "" {
				usage += " (default " + k.Default + ")"
			}
			cmd.Flags().String(k.Flag, "", usage)
		}
	}
}

// flagValues are the keys that the command line set by their own flags.
func flagValues(cmd *cobra.Command) map[string]string {
	values := map[string]string{}
	for _, k := range broker.Keys() {
		if f := cmd.Flags().Lookup(k.Flag); k.Flag != "" && f != nil && f.Changed {
			values[k.Name] = f.Value.String()
		}
	}
	return values
}

func (a *app) configValidateCommand() *cobra.Command {
	var src broker.Sources
	cmd := &cobra.Command{Use: "validate", Short: "Check a configuration as serve would read it, and list every fault", Args: cobra.NoArgs}
	sourceFlags(cmd, &src)
	keyFlags(cmd)
	cmd.RunE = a.body(func(cmd *cobra.Command, _ []string) error {
		src.Flags, src.Env = flagValues(cmd), a.env
		c, err := broker.Load(src)
		if err != nil {
			return fmt.Errorf("configuration:\n%w", err)
		}
		set := c.SetByUser()
		if a.format == formatJSON {
			return a.printJSON("config.validate", map[string]any{"valid": true, "set": set})
		}
		_, err = fmt.Fprintf(a.stdout, "valid: %d keys set, the other %d are defaults\n", len(set), len(broker.Keys())-len(set))
		return err
	})
	return cmd
}

func (a *app) configExplainCommand() *cobra.Command {
	var src broker.Sources
	cmd := &cobra.Command{
		Use: "explain [KEY...]", Short: "Print the value of keys and what set it",
		Long: "Print the value that serve would use for each key and which source won:\nflag > -X > environment > file > default. Without a key, all of them.",
	}
	sourceFlags(cmd, &src)
	keyFlags(cmd)
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return keyNames(), cobra.ShellCompDirectiveNoFileComp
	}
	cmd.RunE = a.body(func(cmd *cobra.Command, names []string) error {
		src.Flags, src.Env = flagValues(cmd), a.env
		c, settings, err := broker.LoadExplained(src)
		if err != nil {
			return fmt.Errorf("configuration:\n%w", err)
		}
		if len(names) == 0 {
			return a.explainAll(&c)
		}
		for i, name := range names {
			k, ok := broker.LookupKey(name)
			if !ok {
				return usagef("%s", broker.UnknownKey(name))
			}
			if i > 0 && a.format == formatTable {
				fmt.Fprintln(a.stdout)
			}
			if err := a.explainKey(&c, &k, settings); err != nil {
				return err
			}
		}
		return nil
	})
	return cmd
}

func keyNames() []string {
	var names []string
	for _, k := range broker.Keys() {
		names = append(names, k.Name)
	}
	return names
}

func (a *app) explainAll(c *broker.Config) error {
	out := newTable("KEY", "VALUE", "SET BY")
	items := []map[string]any{}
	for _, k := range broker.Keys() {
		origin := c.Origin(k.Name).String()
		out.add(k.Name, shown(k.Human(c)), origin)
		items = append(items, map[string]any{"key": k.Name, "value": k.Value(c), "set_by": origin, "default": k.Default})
	}
	return a.printItems("config.explain", "keys", out, items)
}

func shown(value string) string {
	if value == "" {
		return `""`
	}
	return value
}

func (a *app) explainKey(c *broker.Config, k *broker.Key, settings []broker.Setting) error {
	origin := c.Origin(k.Name)
	var lost []string
	for _, s := range settings {
		if s.Key == k.Name && s.Origin != origin {
			lost = append(lost, fmt.Sprintf("%s from %s", shown(s.Value), s.Origin))
		}
	}
	if a.format == formatJSON {
		return a.printJSON("config.explain", map[string]any{"keys": []map[string]any{{
			"key": k.Name, "value": k.Value(c), "set_by": origin.String(), "default": k.Default, "type": k.Type.String(),
			"doc": k.Doc, "env": k.Env(), "flag": k.Flag, "topic_key": k.Topic, "dynamic": k.Dynamic, "overridden": lost, "difference": k.Difference,
		}}})
	}
	cells := []any{"key", k.Name, "value", shown(k.Human(c)), "set by", origin}
	for _, l := range lost {
		cells = append(cells, "overrides", l)
	}
	cells = append(cells, "default", shown(k.Default), "about", k.Doc, "type", strings.Join(k.Facts(), "; "), "variable", k.Env())
	if k.Difference != "" {
		cells = append(cells, "differs from Kafka", k.Difference)
	}
	return pairs(a.stdout, cells...)
}

func (a *app) configReferenceCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{Use: "reference", Short: "Print a file with every key, its default and what it does", Args: cobra.NoArgs}
	cmd.Flags().StringVar(&out, "out", "", "write to `FILE` instead of standard output")
	cmd.RunE = a.body(func(*cobra.Command, []string) error {
		if out == "" {
			return broker.WriteReference(a.stdout)
		}
		f, err := os.Create(out)
		if err != nil {
			return fmt.Errorf("write reference: %w", err)
		}
		if err := broker.WriteReference(f); err != nil {
			f.Close()
			return fmt.Errorf("write reference: %w", err)
		}
		return f.Close()
	})
	return cmd
}
