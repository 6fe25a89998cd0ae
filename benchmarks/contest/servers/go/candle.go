package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

const maxExponent = 64 // a price is shorter than this in plain notation

// candle is a payload from Redis; the numbers stay as they were written.
type candle struct {
	Timestamp      int64       `json:"timestamp"`
	Open           json.Number `json:"open"`
	High           json.Number `json:"high"`
	Low            json.Number `json:"low"`
	Close          json.Number `json:"close"`
	Volume         json.Number `json:"volume"`
	Symbol         string      `json:"symbol"`
	Timeframe      string      `json:"timeframe"`
	Exchange       string      `json:"exchange"`
	IsSynthetic    bool        `json:"isSynthetic"`
	SequenceNum    int64       `json:"sequenceNum"`
	MacdV          float64     `json:"macdV"`
	FastEMA        float64     `json:"fastEMA"`
	SlowEMA        float64     `json:"slowEMA"`
	ATR            float64     `json:"atr"`
	InformativeATR float64     `json:"informativeATR"`
}

type envelope struct {
	Type    string       `json:"type"`
	Channel string       `json:"channel"`
	Data    envelopeData `json:"data"`
}

type envelopeData struct {
	Timestamp string `json:"timestamp"`
	Open      string `json:"open"`
	High      string `json:"high"`
	Low       string `json:"low"`
	Close     string `json:"close"`
	Volume    string `json:"volume"`
}

// event is an envelope, with the subscriptions that match its channel.
type event struct {
	subscriptions [4]string
	message       *websocket.PreparedMessage
}

func newEvent(source string, payload []byte) (event, error) {
	parts := strings.Split(source, ":")
	if len(parts) < 2 {
		return event{}, fmt.Errorf("%q is not the channel of a candle", source)
	}
	symbol, timeframe := parts[len(parts)-2], parts[len(parts)-1]
	channel := "candles:" + symbol + ":" + timeframe
	text, err := encode(channel, payload)
	if err != nil {
		return event{}, err
	}
	message, err := websocket.NewPreparedMessage(websocket.TextMessage, text)
	if err != nil {
		return event{}, err
	}
	return event{
		subscriptions: [4]string{channel, "candles:*:" + timeframe, "candles:" + symbol + ":*", "candles:*:*"},
		message:       message,
	}, nil
}

func encode(channel string, payload []byte) ([]byte, error) {
	var candle candle
	if err := json.Unmarshal(payload, &candle); err != nil {
		return nil, err
	}
	data := envelopeData{Timestamp: time.UnixMilli(candle.Timestamp).UTC().Format("2006-01-02T15:04:05.000Z")}
	for _, member := range []struct {
		number json.Number
		text   *string
	}{
		{candle.Open, &data.Open},
		{candle.High, &data.High},
		{candle.Low, &data.Low},
		{candle.Close, &data.Close},
		{candle.Volume, &data.Volume},
	} {
		var err error
		if *member.text, err = plain(string(member.number)); err != nil {
			return nil, err
		}
	}
	return json.Marshal(envelope{Type: "candle_close", Channel: channel, Data: data})
}

// plain returns the exact number without exponent and trailing zeros.
func plain(number string) (string, error) {
	if number == "" {
		return "", errors.New("a price is missing")
	}
	if mantissa, exponent, found := strings.Cut(strings.ToLower(number), "e"); found {
		power, err := strconv.Atoi(exponent)
		if err != nil || power < -maxExponent || power > maxExponent {
			return "", fmt.Errorf("%q is not a price", number)
		}
		value, _ := new(big.Rat).SetString(number) // every JSON number is valid here
		_, fraction, _ := strings.Cut(mantissa, ".")
		number = value.FloatString(len(fraction) + maxExponent)
	}
	if strings.Contains(number, ".") {
		number = strings.TrimRight(strings.TrimRight(number, "0"), ".")
	}
	return number, nil
}
