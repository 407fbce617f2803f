# shellcheck shell=bash
# gRPC by hand, for what a proper client would not send. Sourced.

# grpc_curl BYTES CURL-ARGUMENT...: posts one message, BYTES as printf's %b takes it, and prints the headers and
# trailers that came back. A server that refuses a call before its body came resets the stream, and curl may then
# forget the answer it has (16, 92): it is asked again.
grpc_curl() {
    local bytes=$1 n head code
    shift
    n=$(printf '%b' "$bytes" | wc -c)
    for _ in 1 2 3 4 5; do
        head=$(printf "\\0$(printf '\\%03o' $((n >> 24 & 255)) $((n >> 16 & 255)) $((n >> 8 & 255)) $((n & 255)))%b" "$bytes" |
            curl -s -m 10 --http2-prior-knowledge --http2 -H 'Content-Type: application/grpc' -H 'TE: trailers' \
                --data-binary @- -o /dev/null -D - "$@")
        code=$?
        [[ $head != *grpc-status* && ($code == 16 || $code == 92) ]] || break
    done
    tr -d '\r' <<<"$head"
}
