package main

import (
	"regexp"
	"slices"
	"testing"

	"github.com/umbra-vss/umbra/provider/providertest"
)

// The case that the help names is one of the suite's.
func TestValidateExample(t *testing.T) {
	m := regexp.MustCompile(`--case (\S+)`).FindStringSubmatch((&app{}).providerValidate().Example)
	if m == nil || !slices.ContainsFunc(providertest.Cases(), func(c providertest.Case) bool { return c.Name == m[1] }) {
		t.Errorf("%q", m)
	}
}
