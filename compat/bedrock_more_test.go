package compat_test

import (
	"encoding/json"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/types"
	"github.com/aws/smithy-go/auth/bearer"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/compat/internal/harness"
	"github.com/llmtenant/tenant/tenanthttp"
)

func converseInput(model string) *bedrockruntime.ConverseInput {
	return &bedrockruntime.ConverseInput{
		ModelId: aws.String(model), InferenceConfig: &types.InferenceConfiguration{MaxTokens: aws.Int32(1000)},
		Messages: []types.Message{{Role: types.ConversationRoleUser, Content: []types.ContentBlock{&types.ContentBlockMemberText{Value: "Hello"}}}},
	}
}

func converseAnswers(r *harness.Request) harness.Reply {
	return harness.BedrockConverse{}.Reply(r, "Hello", tenant.Usage{Input: 10, Output: 10})
}

// littleLeft has room for the call with 1,000 tokens of output less some.
var littleLeft = tenant.Limits{DailyCost: tenant.USD("0.003")}

// A signature is for the request as it is, so that what a key in a header allows is not done.
func TestBedrock_OnlyARequestThatIsNotSignedIsShortened(t *testing.T) {
	t.Parallel()
	signed := newMetered(t, littleLeft, converseAnswers)
	_, err := bedrockClient(signed.client, signed.url).Converse(signed.ctx, converseInput(harness.Model))
	_, ok := tenanthttp.AsBudgetError(signed.ctx, err)
	require.True(t, ok, "%v", err)
	require.Empty(t, signed.requests())
	require.Empty(t, signed.executions())

	withKey := newMetered(t, littleLeft, converseAnswers)
	sdk := bedrockruntime.New(bedrockruntime.Options{
		HTTPClient: withKey.client, BaseEndpoint: &withKey.url, Region: "us-east-1", AuthSchemePreference: []string{"httpBearerAuth"},
		BearerAuthTokenProvider: bearer.StaticTokenProvider{Token: bearer.Token{Value: "key"}},
	})
	_, err = sdk.Converse(withKey.ctx, converseInput(harness.Model))
	require.NoError(t, err)
	got := withKey.requests()[0]
	require.Equal(t, "Bearer key", got.Header.Get("Authorization"))
	var asked struct{ InferenceConfig struct{ MaxTokens int64 } }
	require.NoError(t, json.Unmarshal(got.Body, &asked))
	require.Less(t, asked.InferenceConfig.MaxTokens, int64(1000))
	require.GreaterOrEqual(t, asked.InferenceConfig.MaxTokens, int64(256))
	e := withKey.execution()
	require.Equal(t, "0.003", e.HeldCost().StringFixed(3), "all of the budget is used")
}

// The id of a profile has colons and slashes, which are in the path, and in the signature of the path, in escapes.
func TestBedrock_InferenceProfilesAreModels(t *testing.T) {
	t.Parallel()
	const profile = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-x-v1:0"
	m := newMetered(t, tenDollars, func(r *harness.Request) harness.Reply {
		if err := harness.Signed(awsSecret)(r); err != nil {
			return harness.BedrockConverse{}.Error(500)
		}
		return converseAnswers(r)
	})
	_, err := bedrockClient(m.client, m.url).Converse(m.ctx, converseInput(profile))
	require.NoError(t, err)
	e := m.execution()
	require.Equal(t, profile, e.Model)
	require.Equal(t, "0.00003", e.Cost().String())
}

// A model may fail when Bedrock has said 200 already.
func TestBedrock_AStreamThatEndsWithAnExceptionIsChargedForWhatCame(t *testing.T) {
	t.Parallel()
	m := newMetered(t, tenDollars, func(r *harness.Request) harness.Reply {
		return harness.BedrockConverse{}.Broken(r, []string{"Once upon a time"})
	})
	in := converseInput(harness.Model)
	reply, err := bedrockClient(m.client, m.url).ConverseStream(m.ctx, &bedrockruntime.ConverseStreamInput{
		ModelId: in.ModelId, InferenceConfig: in.InferenceConfig, Messages: in.Messages,
	})
	require.NoError(t, err)
	stream := reply.GetStream()
	for range stream.Events() {
	}
	var broken *types.ModelStreamErrorException
	require.ErrorAs(t, stream.Err(), &broken)
	require.ErrorAs(t, stream.Close(), &broken)
	e := m.execution()
	require.True(t, e.Estimated)
	require.EqualValues(t, 4, e.Usage.Output)
	require.Positive(t, e.Usage.Input)
}

func TestBedrock_CountingTokensIsFree(t *testing.T) {
	t.Parallel()
	m := newMetered(t, tenDollars, replies(`{"inputTokens":14}`))
	count, err := bedrockClient(m.client, m.url).CountTokens(m.ctx, &bedrockruntime.CountTokensInput{
		ModelId: aws.String(harness.Model), Input: &types.CountTokensInputMemberConverse{
			Value: types.ConverseTokensRequest{Messages: converseInput(harness.Model).Messages},
		},
	})
	require.NoError(t, err)
	require.EqualValues(t, 14, *count.InputTokens)
	require.Empty(t, m.executions())
}
