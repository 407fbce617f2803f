# The table of tests/bench/cut as an SVG: what writers saw (p50, p99, max) over the number of agents, both
# logarithmic, and below it the medians that a pause is made of, as bars.
function x(n) { return 70 + 560 * log(n / first) / log(last / first + (last == first)) }
function y(ms) { return 300 - 250 * log((ms < 1 ? 1 : ms)) / log(top) }
function line(column, color, name, at,   i, d) {
    d = ""
    for (i = 1; i <= rows; i++) {
        d = d (i > 1 ? " " : "") sprintf("%.1f,%.1f", x(cell[i, 1]), y(cell[i, column]))
        printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", x(cell[i, 1]), y(cell[i, column]), color
    }
    printf "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", d, color
    printf "<text x=\"640\" y=\"%d\" fill=\"%s\">%s</text>\n", at, color, name
}
NR == 1 { for (i = 1; i <= NF; i++) head[i] = $i; next }
{ rows++; for (i = 1; i <= NF; i++) cell[rows, i] = $i }
END {
    first = cell[1, 1]; last = cell[rows, 1]; top = 10
    for (i = 1; i <= rows; i++) while (cell[i, 4] > top) top *= 10
    print "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"620\" font-family=\"sans-serif\" font-size=\"12\">"
    print "<rect width=\"100%\" height=\"100%\" fill=\"white\"/><text x=\"70\" y=\"30\" font-size=\"15\">Writers stand still, by agents on one machine</text>"
    for (ms = 1; ms <= top; ms *= 10) {
        printf "<line x1=\"70\" x2=\"630\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>", y(ms), y(ms)
        printf "<text x=\"20\" y=\"%.1f\">%d ms</text>\n", y(ms) + 4, ms
    }
    for (i = 1; i <= rows; i++) printf "<text x=\"%.1f\" y=\"318\" text-anchor=\"middle\">%d</text>\n", x(cell[i, 1]), cell[i, 1]
    line(2, "#1b7837", "p50", 120); line(3, "#2166ac", "p99", 140); line(4, "#b2182b", "max", 160)
    split("#4393c3 #f4a582 #5aae61 #9970ab", color, " ")
    for (i = 1; i <= rows; i++) { sum = 0; for (k = 7; k <= 10; k++) sum += cell[i, k]; if (sum > most) most = sum }
    print "<text x=\"70\" y=\"350\" font-size=\"15\">What a hold is made of (medians)</text>"
    for (i = 1; i <= rows; i++) {
        left = 70; height = 365 + i * 36
        printf "<text x=\"20\" y=\"%d\">%d</text>\n", height + 15, cell[i, 1]
        for (k = 7; k <= 10; k++) {
            wide = most > 0 ? 520 * cell[i, k] / most : 0
            printf "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"22\" fill=\"%s\"><title>%s: %s ms</title></rect>\n", left, height, wide, color[k - 6], head[k], cell[i, k]
            left += wide
        }
        printf "<text x=\"%.1f\" y=\"%d\">%.1f ms</text>\n", left + 5, height + 15, cell[i, 7] + cell[i, 8] + cell[i, 9] + cell[i, 10]
    }
    for (k = 7; k <= 10; k++) printf "<text x=\"%d\" y=\"%d\" fill=\"%s\">%s</text>\n", 70 + (k - 7) * 140, 400 + rows * 36, color[k - 6], head[k]
    print "</svg>"
}
