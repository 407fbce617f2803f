# Input: "STEP TOOL WALL CPU PEAK-KIB STORED-BYTES" a line, one for each run.
function median(key, field, n, i, j, v, t) {
    n = count[key]
    for (i = 1; i <= n; i++) v[i] = value[key, i, field]
    for (i = 2; i <= n; i++)
        for (j = i; j > 1 && v[j] < v[j - 1]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
    return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}
function ratio(a, b) { return b > 0 ? sprintf("%.2f", a / b) : "-" }
# What a step of ours comes to by a goal's measure; "": it cannot be told.
function reached(step, measure, mine, other, field) {
    mine = step " stillpoint"
    other = step " " (measure == "bare" || measure == "borg" ? measure : "restic")
    if (!count[mine]) return ""
    if (measure == "rss") return median(mine, 5) / 1024
    if (!count[other]) return ""
    field = measure == "cpu" ? 4 : measure == "bytes" ? 6 : 3
    if (measure == "faster" || measure == "borg")
        return median(mine, field) > 0 ? median(other, field) / median(mine, field) : ""
    return median(other, field) > 0 ? median(mine, field) / median(other, field) : ""
}
function print_goal(pattern, measure, goal, words, more, r, got, worst, at, better, miss) {
    worst = ""
    more = measure == "faster" || measure == "borg"
    for (r = 1; r <= n_rows; r++) {
        if (rows[r] !~ "^" pattern "$") continue
        got = reached(rows[r], measure)
        if (got == "") continue
        better = more ? got > worst : got < worst
        if (worst == "" || !better) { worst = got; at = rows[r] }
    }
    if (worst == "") {
        printf "%-44s %-7s %6s %8s   not measured\n", words, measure, goal, "-"
        return
    }
    miss = more ? (goal - worst) / goal : (worst - goal) / goal
    printf "%-44s %-7s %6s %8.2f   %s%s\n", words, measure, goal, worst,
        miss <= 0 ? "met" : sprintf("missed by %.0f %%", miss * 100 < 1 ? 1 : miss * 100),
        pattern == at ? "" : " (" at ")"
}
{
    key = $1 " " $2
    i = ++count[key]
    for (f = 3; f <= 6; f++) value[key, i, f] = $f
    if (!($1 in row)) { row[$1] = 1; rows[++n_rows] = $1 }
}
END {
    printf "%-28s %-10s %4s %9s %9s %8s %10s   %s\n", "step", "tool", "runs", "wall s", "CPU s", "RSS MiB",
        "stored MB", "to restic: faster, CPU, bytes"
    for (r = 1; r <= n_rows; r++)
        for (t = 1; t <= split("stillpoint restic borg bare", tool, " "); t++) {
            key = rows[r] " " tool[t]; base = rows[r] " restic"
            if (!count[key]) continue
            printf "%-28s %-10s %4d %9.2f %9.2f %8.0f %10.1f", rows[r], tool[t], count[key], median(key, 3),
                median(key, 4), median(key, 5) / 1024, median(key, 6) / 1e6
            if (count[base])
                printf "   %s× %s× %s×", ratio(median(base, 3), median(key, 3)),
                    ratio(median(key, 4), median(base, 4)), ratio(median(key, 6), median(base, 6))
            print ""
        }
    printf "\n%-44s %-7s %6s %8s   %s\n", "goal", "measure", "goal", "reached", "verdict (the worst step)"
    while ((getline line < goals) > 0) {
        if (line ~ /^#/ || split(line, part, " ") < 3) continue
        words = line
        sub(/^[^ ]+ +[^ ]+ +[^ ]+ */, "", words)
        if (words != "") last = words
        print_goal(part[1], part[2], part[3], last)
    }
}
