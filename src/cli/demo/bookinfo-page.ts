// The HTML of the example application's only page. A section whose service does not answer says so: the page never hides it.

export interface Details {
  readonly title: string
  readonly author: string
  readonly year: number
  readonly pages: number
  readonly publisher: string
}
export interface Review {
  readonly reviewer: string
  readonly text: string
  /** Undefined where the ratings service did not answer. */
  readonly stars: number | undefined
}
export interface Reviews {
  readonly reviews: readonly Review[]
  /** Why there are no stars, '' when there are. */
  readonly ratingsProblem: string
  /** The pod that gave the ratings. */
  readonly ratingsFrom: string
}

/** A section's data with the pod that gave it, or why it could not be had. */
export type Section<T> = { readonly data: T; readonly from: string } | { readonly unavailable: string }

export function bookPage(details: Section<Details>, reviews: Section<Reviews>, servedBy: string): string {
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Simple Bookstore App</title>
<style>body{font-family:sans-serif;max-width:44em;margin:2em auto;color:#222}.unavailable{color:#a00}footer{color:#777;font-size:85%}</style>
</head>
<body>
<h1>The Comedy of Errors</h1>
<section id="details">
<h2>Book details</h2>
${'data' in details ? detailsTable(details.data) : unavailable('details', details.unavailable)}
</section>
<section id="reviews">
<h2>Book reviews</h2>
${'data' in reviews ? reviewList(reviews.data) : unavailable('reviews', reviews.unavailable)}
</section>
<footer>productpage ${escapeHtml(servedBy)}${source('details', details)}${source('reviews', reviews)}</footer>
</body>
</html>
`
}

function detailsTable(details: Details): string {
  const row = ([label, value]: readonly [string, string | number]) =>
    `<dt>${label}</dt><dd>${escapeHtml(String(value))}</dd>`
  const rows = [
    ['Author', details.author],
    ['Year', details.year],
    ['Pages', details.pages],
    ['Publisher', details.publisher],
  ] as const
  return `<dl>${rows.map(row).join('')}</dl>`
}

function reviewList({ reviews, ratingsProblem }: Reviews): string {
  const items = reviews.map(
    ({ reviewer, text, stars }) =>
      `<blockquote>${escapeHtml(text)}<br><small>${escapeHtml(reviewer)}${stars === undefined ? '' : ` ${'★'.repeat(stars)}`}</small></blockquote>`,
  )
  return items.join('\n') + (ratingsProblem === '' ? '' : `\n${unavailable('ratings', ratingsProblem)}`)
}

const unavailable = (service: string, why: string) =>
  `<p class="unavailable">The ${service} service is unavailable: ${escapeHtml(why)}</p>`

const source = (name: string, section: Section<unknown>) =>
  'data' in section ? `, ${name} ${escapeHtml(section.from)}` : ''

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`)
}
