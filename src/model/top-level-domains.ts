// Top-level domains in wide use. `service.namespace` is a short name of a Service, but where the namespace is called like one
// of these it is also the name of somebody's site: another cluster that has a namespace `com` must not answer for `github.com`.
const GENERIC = `
academy accountants actor adult aero africa agency ai airforce amazon apartments app apple archi army art arpa asia associates
attorney auction audio audible auto autos aws baby band bank bar bargains baseball basketball beauty beer berlin best bet bible
bid bike bing bingo bio biz black blackfriday blog bloomberg blue boats bond boo book booking boston bot boutique box brussels
build builders business buy buzz cab cafe cam camera camp capital car cards care career careers cars casa case cash casino cat
catering catholic center ceo cern channel charity chat cheap christmas chrome church cisco city claims cleaning click clinic
clothing cloud club coach codes coffee college cologne com community company compare computer condos construction consulting
contact contractors cooking cool coop corsica country coupon coupons courses credit creditcard cricket cruises cyou dad data
dance date dating day deal deals degree delivery dell deloitte democrat dental dentist desi design dev diamonds diet digital
direct directory discount discover dna docs doctor dog domains download drive earth eat eco edu education email energy engineer
engineering enterprises equipment esq estate eus events exchange expert exposed express fail faith family fan fans farm fashion
fast feedback film final finance financial fire fish fishing fit fitness flights florist flowers fly fm foo food football forex
forsale forum foundation free fun fund furniture futbol fyi gal gallery game games garden gay gdn gent gift gifts gives giving
glass global gmail gmbh gold golf google goog gop gov graphics gratis green gripe group guide guitars guru hair hamburg haus
health healthcare help helsinki here hiphop hiv hockey holdings holiday home homes horse hospital host hosting hot hotels house
how hsbc ibm icu immo immobilien inc industries info ing ink institute insurance insure int international investments irish
istanbul java jetzt jewelry jobs joburg juegos kids kim kitchen kiwi koeln kpmg land lat latino law lawyer lease legal lgbt
lifestyle life lighting like limited limo link live living llc llp loan loans locker lol london lotto love ltd ltda luxe luxury
madrid maison makeup management map market marketing markets mba med media meet melbourne meme memorial men menu miami microsoft
mil mini mobi mobile moda moe mom monash money monster moscow motorcycles mov movie museum music name navy net network neustar
new news nexus ngo ninja nokia now nowruz nyc observer office okinawa one ong onl online ooo open oracle orange org organic
osaka ovh page paris parts partners party pay pet pharmacy phd phone photo photography photos physio pics pictures pid pin pink
pizza place play plumbing plus poker porn post press prime pro prod productions prof promo properties property protection pub
pwc qpon quebec quest racing radio read realestate realtor realty recipes red rehab reise reisen rent rentals repair report
republican rest restaurant review reviews rich rio rip rocks rodeo rsvp ruhr run ryukyu saarland safe safety sale salon samsung
sap sarl save sbs schmidt school schule science scot search seat secure security select services sexy shia shiksha shoes shop
shopping show silk singles site ski skin sky skype smile soccer social software solar solutions song sony soy space spa sport
spot srl storage store stream studio study style sucks supplies supply support surf surgery swiss sydney systems taipei talk
target tatar tattoo tax taxi team tech technology tel tennis theater theatre tickets tips tires tirol today tokyo tools top
tours town toyota toys trade trading training travel trust tube tui university uno vacations vegas ventures versicherung vet
viajes video villas vin vip vision vodka vote voting voto voyage wales walter wang watch watches weather web webcam website
wed wedding wiki win windows wine winners work works world wow wtf xbox xerox xin xxx xyz yachts yandex yoga yokohama you
youtube yun zara zero zip zone zuerich
`
const KNOWN: ReadonlySet<string> = new Set(GENERIC.trim().split(/\s+/))

/** Whether a label is, or may become, a top-level domain: two letters belong to countries (ISO 3166), `xn--` to other scripts. */
export function isTopLevelDomain(label: string): boolean {
  return /^[a-z]{2}$/.test(label) || label.startsWith('xn--') || KNOWN.has(label)
}
