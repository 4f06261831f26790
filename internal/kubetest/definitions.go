package kubetest

import _ "embed"

//go:embed testdata/network-attachment-definitions.yaml
var definitionsCRD string

// DefinitionsCRD is the CustomResourceDefinition of
// NetworkAttachmentDefinitions, for Apply.
func DefinitionsCRD() string { return definitionsCRD }
