#!/bin/sh
# Chat with curl: one whole answer, then one streamed answer.
# Usage: sh examples/chat.sh ENDPOINT
set -eu

: "${PARETA_BASE_URL:=http://127.0.0.1:8000}"
: "${PARETA_API_KEY:?export the key that the Ready block shows}"
endpoint=${1:?usage: sh examples/chat.sh ENDPOINT}
messages='[{"role": "user", "content": "What is the capital of France?"}]'

# --fail-with-body prints an error's body and exits with a failure.
chat() {
    curl --silent --show-error --fail-with-body --no-buffer "$PARETA_BASE_URL/v1/chat/completions" \
        -H "Authorization: Bearer $PARETA_API_KEY" -H "Content-Type: application/json" -d "$1"
}

echo "whole:"
chat "{\"model\": \"$endpoint\", \"messages\": $messages}"
echo
echo "streamed:"
chat "{\"model\": \"$endpoint\", \"messages\": $messages, \"stream\": true}"
