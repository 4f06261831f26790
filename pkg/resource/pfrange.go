package resource

import (
	"regexp"
	"strconv"
	"strings"
)

// maxVF is the highest index that a VF can have: PCI counts them in 16 bits.
const maxVF = 1<<16 - 2

// ranges reads pfNames and rootDevices; `check` is for what stands before
// the '#'.
func (at place) ranges(f fields, key string, check func(string) (proper, want string)) []PFRange {
	var all []PFRange
	at.list(f, key, func(value string) (string, string) {
		pf, indexes, ranged := strings.Cut(value, "#")
		proper, want := check(pf)
		if want != "" {
			return "", want + `, alone or with VFs behind it: "#0,2-5"`
		}
		element := PFRange{PF: proper}
		for part := range strings.SplitSeq(indexes, ",") {
			if !ranged {
				break
			}
			first, last, why := span(part)
			if why != "" {
				return "", "VF indexes behind the '#', such as \"#0,2-5\"; " + why
			}
			element.Ranges = append(element.Ranges, [2]int{first, last})
		}
		all = append(all, element)
		return value, ""
	})
	return all
}

// span reads "3" or "2-5".
func span(part string) (first, last int, why string) {
	if !regexp.MustCompile(`^[0-9]{1,9}(-[0-9]{1,9})?$`).MatchString(part) {
		return 0, 0, quote(part) + " is no index and no range"
	}
	low, high, isRange := strings.Cut(part, "-")
	if !isRange {
		high = low
	}
	first, errFirst := strconv.Atoi(low)
	last, errLast := strconv.Atoi(high)
	switch {
	case errFirst != nil || errLast != nil || first > maxVF || last > maxVF:
		return 0, 0, quote(part) + " is beyond " + strconv.Itoa(maxVF)
	case first > last:
		return 0, 0, quote(part) + " runs backwards"
	}
	return first, last, ""
}

// has reports whether a VF of the PF is in the range.
func (r *PFRange) has(index int) bool {
	if r.Ranges == nil {
		return true
	}
	for _, span := range r.Ranges {
		if index >= span[0] && index <= span[1] {
			return true
		}
	}
	return false
}

// String is the form of the file.
func (r PFRange) String() string {
	parts := make([]string, 0, len(r.Ranges))
	for _, span := range r.Ranges {
		part := strconv.Itoa(span[0])
		if span[1] > span[0] {
			part += "-" + strconv.Itoa(span[1])
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return r.PF
	}
	return r.PF + "#" + strings.Join(parts, ",")
}
