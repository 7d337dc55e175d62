# The page of a job's run: what a pass would do, from the output of `respot dry-run -o json`.
# Names are chosen by users: Markdown in them is escaped.
def cell: tostring | gsub("[\r\n]+"; " ") | gsub("&"; "&amp;") | gsub("<"; "&lt;")
  | gsub("(?<c>[\\\\`*_|\\[\\]~])"; "\\" + .c);
"## respot dry run", "",
if .error then
  "**\(.error.kind | cell)**: \(.error.message | cell)",
  (.error.hint // empty | "", "Hint: \(cell)")
else
  (.plan | map(select(.verdict != "skip"))) as $due
  | "\(.summary.totalInstances) instances: \($due | length) to act on, " +
    "\(.summary.skippedInstances) left alone.",
  if $due != [] then
    "", "| instance | name | would | why |", "|---|---|---|---|",
    ($due[] | [.instanceId, .instanceName, .verdict, .detail] | map(cell) | "| \(join(" | ")) |")
  else empty end,
  (.plan | map(select(.verdict == "skip")) | group_by(.reason)
    | map({reason: .[0].reason, count: length}) | sort_by(-.count)
    | if . != [] then "", "| left alone because | instances |", "|---|---|",
        (.[] | "| \(.reason | cell) | \(.count) |") else empty end)
end
