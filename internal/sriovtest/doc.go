// Package sriovtest tests the SR-IOV plugin by one table of cases (Cases) that
// runs on beds: on a Model of a PF and its driver, and on real VFs in a guest.
// A model that behaves otherwise than the real one fails the same table.
package sriovtest
