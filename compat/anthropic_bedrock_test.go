package compat_test

import (
	"net/http"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/bedrock"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/llmtenant/tenant/compat/internal/harness"
)

var anthropicBedrock = harness.SDK{
	Name: "anthropic-sdk-go, on Bedrock", Module: "github.com/anthropics/anthropic-sdk-go", File: "anthropic_bedrock_test.go",
	Wire: harness.BedrockInvoke{}, Check: harness.Signed(awsSecret), Retries: 2, New: newAnthropicBedrock,
	Notes: []string{signedNote},
}

func newAnthropicBedrock(_ testing.TB, client *http.Client, url string) harness.Calls {
	cfg := aws.Config{Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("key", awsSecret, "")}

	// The transport under the SDK:
	sdk := anthropic.NewClient(option.WithHTTPClient(client), bedrock.WithConfig(cfg), option.WithBaseURL(url))

	return anthropicCalls(sdk)
}
